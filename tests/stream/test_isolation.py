"""A record no fold can take ends among the dead letters, and stops neither its unit nor what follows it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from headwater.embedded import EmbeddedRuntime
from state.clients import redis_client
from state.commit import Change
from state.events import DeadLetter, Item, encode
from state.keys import items_key, unit_prefix
from state.outbox import Message
from state.settings import Settings
from stream.catalogue import CatalogueLogic
from stream.effects import Effects, Place
from stream.folder import Folder
from stream.isolation import Isolation
from stream.journal import decode_entry
from stream.rows import Row, decode_row
from tests.stream.folding import AT

ERROR = RuntimeError("cannot fold this")


def item(number: int, title: str = "good") -> Row:
    raw = encode(Item(event_id=f"e{number}", occurred_at=AT, item_id=f"i{number}", title=title))
    return decode_row(Row("items", 0, number, AT, f"i{number}".encode(), raw), (), 0)


def test_after_a_failure_rows_are_folded_singly_until_all_of_them_have_passed() -> None:
    isolation, rows = Isolation(), [item(n) for n in range(3)]
    assert isolation.most(500) == 500
    assert isolation.failed(rows, ERROR)
    for row in rows:
        assert isolation.most(500) == 1
        isolation.passed([row])
    assert isolation.most(500) == 500


def test_a_row_that_fails_alone_is_refused_and_its_neighbours_are_not() -> None:
    isolation, guilty, good = Isolation(), item(1), item(2)
    isolation.failed([guilty, good], ERROR)
    assert isolation.failed([guilty], ERROR)
    isolation.mark([guilty, good])
    assert guilty.refusal is not None
    assert guilty.refusal.reason == "fold_failed"
    assert "cannot fold this" in str(guilty.refusal)
    assert good.refusal is None


def test_a_row_is_cleared_when_the_fold_fails_without_it_as_well() -> None:
    isolation = Isolation()
    isolation.failed([item(1)], ERROR)
    assert not isolation.failed([item(1)], ERROR)
    again = item(1)
    isolation.mark([again])
    assert again.refusal is None


def test_a_fold_that_fails_without_rows_has_to_wait() -> None:
    assert not Isolation().failed([], ERROR)


class Poisoned(CatalogueLogic):
    """A catalogue with a defect: it cannot fold items of one title."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        if any(isinstance(row.event, Item) and row.event.title == "poison" for row in rows):
            raise ERROR
        return super().fold(rows, watermark)


class LogPorts:
    """A folder's ports over a real store, with a log of our own that a seek reads anew."""

    lateness_ms, max_batch = 0, 500

    def __init__(self, redis: Any, log: Sequence[Row]) -> None:
        self.redis, self._log = redis, log
        self.folder: Folder | None = None
        self.sent: list[Message] = []
        self.failures = 0

    def messages(self, kind: str) -> list[Message]:
        return [message for message in self.sent if message.kind == kind]

    def end_seen_at(self, kind: str, partition: int) -> int | None:  # noqa: ARG002
        return None

    async def send(self, unit: str, messages: Sequence[Message]) -> None:  # noqa: ARG002
        self.sent += messages

    async def hold(self, kinds: Sequence[tuple[str, int]]) -> None:
        pass

    async def seek(self, offsets: Mapping[tuple[str, int], int | None]) -> None:
        assert self.folder is not None
        start = next(iter(offsets.values())) or 0
        rows = [Row(r.kind, r.partition, r.offset, r.received_at, r.key, r.raw) for r in self._log[start:]]
        await self.folder.enqueue([decode_row(row, (), 0) for row in rows])

    def observe(self, unit: str, rows: int, seconds: float, event_age_ms: int | None) -> None:
        pass

    def observe_failure(self, unit: str) -> None:  # noqa: ARG002
        self.failures += 1


@pytest.fixture
async def ports(runtime: EmbeddedRuntime, namespace: str) -> AsyncIterator[LogPorts]:
    redis = redis_client(Settings(redis=runtime.redis, token_secret="a secret of the tests"), timeout_s=5.0)
    ports = LogPorts(redis, [item(n, "poison" if n in (2, 5) else "good") for n in range(8)])
    place = Place(unit_prefix(namespace, "i0"), "i0", 0)
    ports.folder = Folder(lambda: Poisoned(place), 0, ports)
    yield ports
    await ports.folder.stop()
    await redis.aclose()


async def test_poison_among_good_items_becomes_dead_letters_and_every_good_item_counts(
    ports: LogPorts, namespace: str
) -> None:
    assert ports.folder is not None
    await ports.folder.start()
    await ports.seek({("items", 0): None})
    async with asyncio.timeout(60):
        while ports.folder.positions() != {("items", 0): 8} or len(ports.messages("deadletters")) < 2:
            await asyncio.sleep(0.01)
    stored = await ports.redis.hkeys(items_key(unit_prefix(namespace, "i0")))
    assert sorted(stored) == [f"i{n}".encode() for n in range(8) if n not in (2, 5)]
    letters = [
        msgspec.json.decode(message.value, type=DeadLetter) for message in ports.messages("deadletters")
    ]
    assert [(letter.reason, letter.offset) for letter in letters] == [("fold_failed", 2), ("fold_failed", 5)]
    assert ports.failures >= 2
    said = {(message.number, message.kind, message.value) for message in ports.sent}
    assert len(said) == len({number for number, _, _ in said}), "each message has a number of its own"
    entries = [decode_entry(message.value, message.number) for message in ports.messages("journal")]
    refused = [
        (kind, offset)
        for entry in entries
        for kind, offset, error in entry.refused
        if repr(ERROR)[:20] in error
    ]
    assert refused == [("items", 2), ("items", 5)]


def test_the_change_a_refused_row_makes_is_only_its_dead_letter() -> None:
    row = item(1)
    isolation = Isolation()
    isolation.failed([row], ERROR)
    isolation.mark([row])
    logic = CatalogueLogic(Place(unit_prefix("hw", "i0"), "i0", 0))
    logic.restore({}, {key: {} for key in logic.hashes})
    change: Change = logic.fold([row], 0).finish()
    assert len(change.outbox) == 1
    assert not change.fields.get(items_key(unit_prefix("hw", "i0")))
