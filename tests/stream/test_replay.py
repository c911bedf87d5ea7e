"""Folding again from the journal ends in the same state, and in another where the journal is not true."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from online_models.ranking import ranking_registry
from state.events import Outcome, OutcomeSlot, Versions, encode
from state.keys import unit_prefix
from state.outbox import Message, decode_message
from state.packing import to_base64
from stream.folder import UnitLogic
from stream.isolation import fold_failed
from stream.journal import InOrder, Journal, JournalEntry, JournalError, Mark, decode_entry, marks
from stream.replay import Rewind, leaving_out, subject_of_row
from stream.replay_run import Sent, Until
from stream.rows import Row, decode_row
from stream.rules import FOLD_VERSION, unit_rules
from stream.units import logic_maker
from stream.watermark import Progress, Watermark
from tests.stream.folding import AT, Store, click, impression, settings
from tests.stream.test_shard_restart import TOLD, traffic

Record = tuple[int, bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
Log = dict[tuple[str, int], Record]
RULES = unit_rules(settings(**TOLD), "0")


def make(unit: str = "0") -> UnitLogic:
    return logic_maker(settings(**TOLD), unit, 0)()


class Live:
    """What a folder does, by values: folds batches, journals them, and begins anew where told."""

    def __init__(self, unit: str = "0", rules: Mapping[str, Any] = RULES) -> None:
        self.unit, self.rules, self.store = unit, rules, Store()
        self.sent: list[Message] = []
        self.log: Log = {}
        self._ends: dict[str, int] = defaultdict(int)
        self._commits = self._epoch = 0
        self.begin()

    def begin(self) -> None:
        """Claim and load, as an owner does that knows nothing."""
        self._epoch += 1
        self.store.meta |= {"epoch": str(self._epoch), "commit": str(self._commits)}
        self.logic = make(self.unit)
        self.store.load(self.logic)
        self.journal = Journal(self.store.meta, self.rules)
        known = self.store.meta.get("progress")
        progress = msgspec.json.decode(known, type=Progress) if known else None
        self.watermark = Watermark(self.logic.kinds, 0, progress)

    def arrived(self, row: Row, headers: Sequence[tuple[str, bytes]] = ()) -> Row:
        """Return a row as it stands in the log, decoded from there."""
        offset, self._ends[row.kind] = self._ends[row.kind], self._ends[row.kind] + 1
        self.log[row.kind, offset] = row.received_at, row.key, row.raw, headers
        return read(self.log, row.kind, offset)

    def fold(self, rows: Sequence[Row], watermark: int) -> None:
        for row in rows:
            self.watermark.observe(row.kind, row.occurred_at(), row.received_at)
        self.watermark.progress.watermark = watermark
        wanted = self.logic.wanted(rows, watermark)
        self.logic.put([self.store.values.get(key) for key in wanted])
        entry = self.journal.entry(rows, watermark, AT)
        effects = self.logic.fold(rows, watermark)
        effects.send("journal", self.unit.encode(), encode(entry), 0)
        self.logic.outbox_number = effects.outbox_number
        change = effects.finish()
        change.meta |= marks(entry) | {"progress": encode(self.watermark.progress).decode()}
        self.store.apply(change)
        self.sent += [decode_message(raw) for raw in change.outbox]
        self._commits += 1
        self.journal.committed(self._commits, entry)

    def entries(self) -> list[JournalEntry]:
        return [decode_entry(m.value, m.number) for m in self.sent if m.kind == "journal"]


def read(log: Log, kind: str, offset: int) -> Row:
    at, key, raw, headers = log[kind, offset]
    return decode_row(Row(kind, 0, offset, at, key, raw), headers, 300_000)


def lived(seed: int, restarts: frozenset[int] = frozenset(), visits: int = 60) -> Live:
    live = Live()
    for number, (rows, watermark) in enumerate(traffic(seed, visits)):
        if number in restarts:
            live.begin()
        live.fold([live.arrived(row) for row in rows], watermark)
    return live


def replayed(
    entries: Sequence[JournalEntry],
    log: Log,
    store: Store | None = None,
    *,
    unit: str = "0",
    leaves_out: Callable[[Row, int], bool] | None = None,
    rules: Mapping[str, Any] = RULES,
) -> Store:
    """Fold entries again, reading of the log what it still holds."""
    store = store or Store()
    logic = make(unit)
    store.load(logic)
    rewind = Rewind(logic, store.meta, dict(rules), leaves_out)
    for entry in entries:
        held = [(k, n) for k, first, last in entry.order for n in range(first, last + 1) if (k, n) in log]
        rows = rewind.rows(entry, [read(log, *where) for where in held])
        logic.put([store.values.get(key) for key in logic.wanted(rows, entry.watermark)])
        store.apply(rewind.change(entry, rows))
    return store


def state(store: Store) -> tuple[Any, ...]:
    """Return all that is stored but which owner wrote it."""
    values, hashes, meta, _ = store.state()
    return values, hashes, {k: v for k, v in meta.items() if k not in ("epoch", "commit")}


@given(st.integers(0, 10_000), st.frozensets(st.integers(0, 15), max_size=4), st.integers(0, 30))
@effort(max_examples=25, deadline=None)
def test_a_replay_ends_in_the_same_state_wherever_owners_changed_and_it_was_stopped(
    seed: int, restarts: frozenset[int], stopped: int
) -> None:
    live = lived(seed, restarts)
    read_twice = InOrder("0", Mark())
    for entry in random.Random(seed).sample([*live.entries(), *live.entries()], 2 * len(live.entries())):
        read_twice.add(entry)
    entries = list(read_twice.ready(at_end=True))
    part = replayed(entries[:stopped], live.log)
    assert state(replayed(entries[stopped:], live.log, part)) == state(live.store)


def test_a_snapshot_in_the_middle_ends_in_the_same_state() -> None:
    live = lived(3)
    entries = live.entries()
    middle = replayed(entries[:5], live.log)
    again = Store()
    again.values, again.meta, again.commits = dict(middle.values), dict(middle.meta), middle.commits
    again.indexes = {key: list(members) for key, members in middle.indexes.items()}
    again.hashes = {key: dict(fields) for key, fields in middle.hashes.items()}
    assert state(replayed(entries[5:], live.log, again)) == state(live.store)


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_another_order_end_in_another_state(seed: int) -> None:
    live = lived(seed, visits=200)
    entries = live.entries()
    for entry in entries:
        entry.order = entry.order[::-1]
    assert state(replayed(entries, live.log)) != state(live.store)


def test_a_dropped_batch_ends_in_another_state() -> None:
    live = lived(1)
    entries = live.entries()
    assert state(replayed([*entries[:3], *entries[4:]], live.log)) != state(live.store)


@given(st.integers(0, 10_000), st.sampled_from(["u1", "u2", "u3", "u9", "s:s1"]))
@effort(max_examples=20, deadline=None)
def test_leaving_a_subject_out_is_as_if_its_records_had_never_been(seed: int, gone: str) -> None:
    live = lived(seed)
    holes = {where: one for where, one in live.log.items() if subject_of_row(read(live.log, *where)) != gone}
    assert len(holes) < len(live.log)
    skips = leaving_out("0", lambda shard, _, subject: (shard, subject) == (0, gone), lambda *_: 0)
    left_out = replayed(live.entries(), live.log, leaves_out=skips)
    assert state(left_out) == state(replayed(live.entries(), holes))
    assert not any(key.endswith(f"s:{gone}") for key in left_out.values)


def test_rows_are_left_out_up_to_a_commit_only() -> None:
    live = Live()
    for n in range(4):
        live.fold([live.arrived(click(user="u1", at=AT + n, item=f"i{n}"))], AT - 1000)
    skips = leaving_out("0", lambda _, commit, __: commit <= 2, lambda *_: 0)
    store = replayed(live.entries(), live.log, leaves_out=skips)
    assert store.hashes[f"{unit_prefix('hw', '0')}counters"][b"clicks"] == b"2"


def test_a_row_no_fold_could_take_is_refused_again() -> None:
    live = Live()
    rows = [live.arrived(click(user="u1", item="a")), live.arrived(click(user="u2", item="b"))]
    rows[1].event, rows[1].refusal = None, fold_failed("RuntimeError('poison')")
    live.fold(rows, AT)
    (entry,) = live.entries()
    assert [one[:2] for one in entry.refused] == [("clicks", 1)]
    store = replayed([entry], live.log)
    assert state(store) == state(live.store)
    assert store.hashes[f"{unit_prefix('hw', '0')}counters"][b"refused.fold_failed"] == b"1"


def test_a_replay_under_other_rules_is_refused_and_names_what_changed() -> None:
    live = lived(2)
    theirs = unit_rules(settings(**{**TOLD, "attribution_window_s": 7.0}), "0")
    with pytest.raises(JournalError, match=r"unit 0: commit 1 .* window_ms was 20000, is 7000"):
        replayed(live.entries(), live.log, rules=theirs)


def test_a_replay_goes_on_under_the_rules_that_came_later() -> None:
    live = Live()
    live.fold([live.arrived(click())], AT)
    live.rules = {**RULES, "fold": FOLD_VERSION + 1}
    live.begin()
    live.fold([live.arrived(impression())], AT)
    first, second = live.entries()
    assert second.rules == live.rules
    with pytest.raises(JournalError, match=rf"commit 2 .* fold was {FOLD_VERSION + 1}, is {FOLD_VERSION}"):
        replayed([first, second], live.log)
    part = replayed([first], live.log)
    assert state(replayed([second], live.log, part, rules=live.rules)) == state(live.store)


UNTIL = [
    (Until(), True), (Until(at_ms=AT), True), (Until(at_ms=AT - 1), False), (Until(commit=5), True),
    (Until(commit=4), False), (Until(commit=4, commits={"0": 5}), True), (Until(commits={"0": 4}), False),
    (Until(commits={"1": 4}), True), (Until(at_ms=AT - 1, commit=9), False),
]  # fmt: skip


@pytest.mark.parametrize(("until", "wished"), UNTIL)
def test_a_replay_ends_at_a_time_or_a_commit(until: Until, *, wished: bool) -> None:
    assert until.includes("0", JournalEntry(5, 4, 1, 0, AT)) is wished


def test_a_message_belongs_to_the_commit_whose_entry_followed_it() -> None:
    sent = Sent([(3, 10), (7, 12)])
    assert [sent.commit(number) for number in (1, 3, 4, 7, 8)] == [10, 10, 12, 12, 12]


def outcome(number: int, subject: str, rng: random.Random) -> Row:
    width = len(ranking_registry())
    event = Outcome(
        event_id=f"d{number}",
        occurred_at=AT,
        subject=subject,
        surface=rng.choice(["home", "cart"]),
        lane=0,
        shown_at=AT,
        slots=[OutcomeSlot(f"i{n}", n, float(rng.random() < 0.3), 0.5) for n in range(3)],
        features=to_base64(np.array([rng.random() for _ in range(3 * width)])),
        logits=to_base64(np.zeros(3)),
        versions=Versions("hybrid-1", 1, 1, "f"),
    )
    return Row("outcomes", 0, 0, AT, b"home#0", encode(event))


def laned(sizes: Sequence[int]) -> Live:
    rng, live, number = random.Random(5), Live("m0", unit_rules(settings(**TOLD), "m0")), 0
    for size in sizes:
        rows = []
        for _ in range(size):
            number += 1
            headers = Message(number, "outcomes", None, b"").headers("0")
            rows.append(live.arrived(outcome(number, f"u{number % 3}", rng), headers))
        live.fold(rows, 0)
    return live


def test_a_lane_learns_the_same_model_again_and_other_batches_would_teach_another() -> None:
    live = laned([70, 5, 40, 1])
    rules = unit_rules(settings(**TOLD), "m0")
    assert state(replayed(live.entries(), live.log, unit="m0", rules=rules)) == state(live.store)
    models = f"{unit_prefix('hw', 'm0')}models"
    assert laned([75, 41]).store.hashes[models] != live.store.hashes[models]


def test_outcomes_of_a_subject_left_out_teach_nothing() -> None:
    live = laned([30, 30])
    rules = unit_rules(settings(**TOLD), "m0")
    said: list[tuple[int, int, str]] = []

    def skips(shard: int, commit: int, subject: str) -> bool:
        said.append((shard, commit, subject))
        return subject == "u1" and commit == 20

    leaves_out = leaving_out("m0", skips, lambda _, number: 20 if number <= 40 else 21)
    store = replayed(live.entries(), live.log, unit="m0", rules=rules, leaves_out=leaves_out)
    holes = {
        (kind, offset): one
        for (kind, offset), one in live.log.items()
        if offset >= 40 or subject_of_row(read(live.log, kind, offset)) != "u1"
    }
    without = replayed(live.entries(), holes, unit="m0", rules=rules)
    counters = f"{unit_prefix('hw', 'm0')}counters"
    assert store.hashes[counters] == without.hashes[counters]
    assert int(store.hashes[counters][b"outcomes"]) < 60
    assert {shard for shard, _, _ in said} == {0}
