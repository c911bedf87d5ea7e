"""The journal: what each commit folded, in which order and under which rules, so that it can fold again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from state.outbox import SENT_AT_ONCE
from state.partition import shard_of
from stream.rows import Row

MARK = "journalled"
RULES = "rules"
_LOOKAHEAD = 2 * SENT_AT_ONCE
Run = tuple[str, int, int]
Rules = Mapping[str, Any]


class JournalError(RuntimeError):
    """A journal that cannot be followed any further; the message says where and why."""


class JournalEntry(Struct, omit_defaults=True):
    """What one commit folded.

    Attributes
    ----------
    commit, after
        Its number, and that of the commit journalled before it; 0 for none.
    epoch
        Of the owner.
    watermark
        What rows were folded with.
    at
        The owner's clock, ms.
    order
        Arrival order as runs (topic kind, first offset, last offset).
    refused
        Rows no fold could take: (topic kind, offset, the error met).
    rules
        What was folded under, where it is not what the entry before was.
    number
        Outbox number of the entry; known from its header.
    """

    commit: int
    after: int
    epoch: int
    watermark: int
    at: int
    order: list[Run] = []
    refused: list[tuple[str, int, str]] = []
    rules: dict[str, Any] | None = None
    number: int = 0


_decoder = msgspec.json.Decoder(JournalEntry)


def decode_entry(raw: bytes, number: int) -> JournalEntry:
    """Return a journal record as the entry it is.

    Raises
    ------
    JournalError
        If it cannot be read.
    """
    try:
        entry = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalError(f"journal record {number} is {raw[:80]!r}; wished: an entry ({error})") from None
    entry.number = number
    return entry


def journal_partition(unit: str, shards: int) -> int:
    """Return the partition of the journal topic that a unit writes to."""
    return int(unit) if unit.isdigit() else shard_of(unit, shards)


class Mark(Struct, frozen=True):
    """How far a unit's state follows its journal: the last entry folded, and the epoch it was written in."""

    commit: int = 0
    epoch: int = 0

    def encode(self) -> str:
        """Return the mark as a field of the unit's meta hash."""
        return f"{self.commit}:{self.epoch}"


def read_mark(meta: Mapping[str, str]) -> Mark:
    """Return the mark in a unit's meta hash."""
    commit, _, epoch = meta.get(MARK, "").partition(":")
    return Mark(int(commit or 0), int(epoch or 0))


def read_rules(meta: Mapping[str, str]) -> dict[str, Any]:
    """Return the rules last journalled, from a unit's meta hash."""
    rules: dict[str, Any] = msgspec.json.decode(meta.get(RULES, "{}"))
    return rules


class Journal:
    """Writes the entries of one owner of a unit.

    Parameters
    ----------
    meta
        The unit's meta hash as claimed.
    rules
        What this owner folds under.
    """

    def __init__(self, meta: Mapping[str, str], rules: Rules) -> None:
        self._commit, self._epoch = int(meta.get("commit", "0")), int(meta["epoch"])
        self._mark, self._rules = read_mark(meta), dict(rules)
        self._told = read_rules(meta)

    def entry(self, rows: Sequence[Row], watermark: int, at_ms: int) -> JournalEntry:
        """Return the entry of the commit that comes next."""
        refused = [
            (row.kind, row.offset, row.refusal.value)
            for row in rows
            if row.refusal is not None and row.refusal.reason == "fold_failed"
        ]
        rules = None if self._rules == self._told else self._rules
        where = (self._commit + 1, self._mark.commit, self._epoch)
        return JournalEntry(*where, watermark, at_ms, runs(rows), refused, rules)

    def committed(self, commit: int, entry: JournalEntry | None = None) -> None:
        """Note a commit, and the entry it journalled if it did."""
        self._commit = commit
        if entry is not None:
            self._mark, self._told = Mark(entry.commit, entry.epoch), self._rules


def marks(entry: JournalEntry) -> dict[str, str]:
    """Return what a unit's meta hash keeps of an entry."""
    kept = {MARK: Mark(entry.commit, entry.epoch).encode()}
    return kept if entry.rules is None else kept | {RULES: msgspec.json.encode(entry.rules).decode()}


def runs(rows: Sequence[Row]) -> list[Run]:
    """Return the arrival order of rows as runs."""
    found: list[Run] = []
    for row in rows:
        if found and found[-1][0] == row.kind:
            found[-1] = (row.kind, found[-1][1], row.offset)
        else:
            found.append((row.kind, row.offset, row.offset))
    return found


class InOrder:
    """Puts entries into the order of their commits, whatever was sent twice or in another order.

    Each entry names the one before it. Where a store has lost its latest commits and they were made again,
    those of the later owner count.

    Parameters
    ----------
    unit
        Whose entries they are; for errors.
    mark
        The last entry already folded.
    """

    def __init__(self, unit: str, mark: Mark) -> None:
        self._unit, self._mark = unit, mark
        self._waiting: dict[int, JournalEntry] = {}

    def add(self, entry: JournalEntry) -> None:
        """Take in an entry as it was read.

        Raises
        ------
        JournalError
            If it makes again what has already been folded otherwise.
        """
        mark = self._mark
        if entry.epoch < mark.epoch or entry.commit <= mark.commit:
            if entry.epoch > mark.epoch and entry.after < mark.commit:
                raise JournalError(
                    f"unit {self._unit}: the store went back from commit {mark.commit} to {entry.after}, and "
                    f"epoch {entry.epoch} folded anew; wished: a replay from the beginning"
                )
            return
        known = self._waiting.get(entry.after)
        if known is None or known.epoch <= entry.epoch:
            self._waiting[entry.after] = entry

    def ready(self, *, at_end: bool = False) -> Iterator[JournalEntry]:
        """Yield what can be folded now; at the end of the journal, all of it.

        Raises
        ------
        JournalError
            If an entry is missing.
        """
        most = 0 if at_end else _LOOKAHEAD
        while len(self._waiting) > most:
            entry = self._waiting.pop(self._mark.commit, None)
            if entry is None:
                self._drop_void()
                if len(self._waiting) > most:
                    raise self._gap()
            elif entry.epoch >= self._mark.epoch:
                self._mark = Mark(entry.commit, entry.epoch)
                yield entry

    def _drop_void(self) -> None:
        """Forget what waits although a later owner has made it anew."""
        epoch = self._mark.epoch
        self._waiting = {after: entry for after, entry in self._waiting.items() if entry.epoch >= epoch}

    def _gap(self) -> JournalError:
        known = min(self._waiting.values(), key=lambda entry: entry.commit)
        return JournalError(
            f"unit {self._unit}: the journal lacks what follows commit {self._mark.commit}; the next entry "
            f"known is commit {known.commit}, which follows {known.after}; wished: an unbroken journal, or "
            "a snapshot taken later"
        )
