"""Folding a unit again from its journal: the same rows, in the same order and batches, by the same classes.

Pure: entries and rows go in, changes come out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from state.commit import Change
from state.events import SUBJECT_KINDS, Outcome, SubjectEvent, User, encode
from stream.folder import UnitLogic
from stream.isolation import fold_failed
from stream.journal import JournalEntry, JournalError, Run, marks
from stream.rows import Row
from stream.rules import Rules, differences
from stream.watermark import Progress, Watermark

PROGRESS = "progress"
Skips = Callable[[int, int, str], bool]
"""Whether a subject's rows are left out: shard, commit number of that shard, subject."""

CommitOf = Callable[[str, int], int]
"""Which commit of a shard (unit name) sent an outbox message (its number)."""


class Rewind:
    """Makes the changes of one unit's journal entries anew.

    Parameters
    ----------
    logic
        Of the unit, restored from where the replay stands.
    meta
        The unit's meta hash there.
    rules
        What this process folds under.
    leaves_out
        Whether a row is left out, given the commit that folded it.
    """

    def __init__(
        self,
        logic: UnitLogic,
        meta: dict[str, str],
        rules: Rules,
        leaves_out: Callable[[Row, int], bool] | None = None,
    ) -> None:
        self.logic, self._rules, self._leaves_out = logic, rules, leaves_out
        self._told: Rules = msgspec.json.decode(meta.get("rules", "{}"))
        progress = meta.get(PROGRESS)
        known = None if progress is None else msgspec.json.decode(progress, type=Progress)
        self._watermark = Watermark(logic.kinds, 0, known)
        self._stored = {name[2:]: int(at) for name, at in meta.items() if name.startswith("o:")}

    def rows(self, entry: JournalEntry, read: Sequence[Row]) -> list[Row]:
        """Return the rows an entry's fold takes, of those read for it.

        Raises
        ------
        JournalError
            If they were folded under rules other than ours.
        """
        self._check_rules(entry)
        refused = {(kind, offset): error for kind, offset, error in entry.refused}
        kept = []
        for row in read:
            if self._leaves_out is not None and self._leaves_out(row, entry.commit):
                continue
            error = refused.get((row.kind, row.offset))
            if error is not None:
                row.event, row.refusal = None, fold_failed(error)
            self._watermark.observe(row.kind, row.occurred_at(), row.received_at)
            kept.append(row)
        return kept

    def _check_rules(self, entry: JournalEntry) -> None:
        self._told = entry.rules or self._told
        if self._told != self._rules:
            raise JournalError(
                f"unit {self.logic.place.unit}: commit {entry.commit} was folded under other rules: "
                f"{'; '.join(differences(self._told, self._rules))}; wished: the settings and the version of "
                "then, up to the commit before the next change"
            )

    def change(self, entry: JournalEntry, rows: Sequence[Row]) -> Change:
        """Fold an entry's rows; returns what to commit. Nothing is sent: it was sent at the time."""
        effects = self.logic.fold(rows, entry.watermark)
        self.logic.outbox_number = effects.outbox_number = entry.number
        change = effects.finish()
        change.outbox = []
        change.offsets = self._moved(entry.order)
        self._watermark.progress.watermark = entry.watermark
        change.meta[PROGRESS] = encode(self._watermark.progress).decode()
        change.meta |= marks(entry)
        return change

    def _moved(self, order: Sequence[Run]) -> dict[str, tuple[int | None, int]]:
        before, after = dict(self._stored), {kind: last + 1 for kind, _, last in order}
        self._stored |= after
        return {kind: (before.get(kind), at) for kind, at in after.items()}


def subject_of_row(row: Row) -> str | None:
    """Return whose row it is: as its event says, else as its key does."""
    if isinstance(row.event, SubjectEvent | User | Outcome):
        return row.event.subject
    if row.kind not in SUBJECT_KINDS or row.key is None:
        return None
    return row.key.decode(errors="replace")


def leaving_out(unit: str, skips: Skips, commit_of: CommitOf) -> Callable[[Row, int], bool]:
    """Return which rows of a unit are left out so that the subjects `skips` names never were.

    An outcome is judged by the commit of the shard that sent it, like the events it was made of.
    """

    def leaves_out(row: Row, commit: int) -> bool:
        subject = subject_of_row(row)
        if subject is None:
            return False
        if unit.isdigit():
            return skips(int(unit), commit, subject)
        source: Any = row.source
        return source.isdigit() and skips(int(source), commit_of(source, row.number), subject)

    return leaves_out
