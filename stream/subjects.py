"""Subject records in a folder's memory: loaded on demand, folded, written back when dirty."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from state.keys import subject_key
from state.subject import SubjectRecord, decode_subject, encode_subject
from stream.effects import Effects


class Subjects:
    """The shard's subject records of late, bounded; truth is in the store.

    Parameters
    ----------
    prefix
        Key prefix of the shard.
    ttl_ms
        Time to live of a record nobody touches.
    cap
        Records kept in memory.

    Attributes
    ----------
    erased_at
        Tells when a subject was erased last, asked for those without a record; 0 for never.
    """

    def __init__(self, prefix: str, ttl_ms: int, cap: int = 50_000) -> None:
        self._prefix, self._ttl_ms, self._cap = prefix, ttl_ms, cap
        self.erased_at: Callable[[str], int] = _never
        self._records: OrderedDict[str, SubjectRecord] = OrderedDict()
        self._dirty: set[str] = set()

    def missing(self, subjects: Iterable[str]) -> list[str]:
        """Return the subjects whose records have to be loaded first."""
        return [subject for subject in dict.fromkeys(subjects) if subject not in self._records]

    def key(self, subject: str) -> str:
        """Return a subject's key."""
        return subject_key(self._prefix, subject)

    def put(self, loaded: Mapping[str, bytes | None]) -> None:
        """Take in loaded records; None is a subject never seen."""
        for subject, raw in loaded.items():
            self._records[subject] = self._new(subject) if raw is None else decode_subject(raw)

    def read(self, subject: str) -> SubjectRecord:
        """Return a loaded record without the intent to change it."""
        self._records.move_to_end(subject)
        return self._records[subject]

    def touch(self, subject: str) -> SubjectRecord:
        """Return a loaded record that will be changed and written back."""
        self._dirty.add(subject)
        return self.read(subject)

    def drop(self, subject: str, effects: Effects) -> None:
        """Delete a subject's record."""
        self._records[subject] = self._new(subject)
        self._dirty.discard(subject)
        effects.change.values.pop(self.key(subject), None)
        effects.change.dropped_keys.append(self.key(subject))

    def _new(self, subject: str) -> SubjectRecord:
        return SubjectRecord(begins_after=self.erased_at(subject))

    def write(self, effects: Effects, applied_before_ms: int) -> None:
        """Put dirty records into the change; forget event marks older than the lateness bound."""
        dropped = set(effects.change.dropped_keys)
        for subject in sorted(self._dirty):
            record = self._records[subject]
            record.forget_applied(applied_before_ms)
            effects.change.values[self.key(subject)] = (encode_subject(record), self._ttl_ms)
            dropped.discard(self.key(subject))
        effects.change.dropped_keys = sorted(dropped)
        self._dirty.clear()
        while len(self._records) > self._cap:
            self._records.popitem(last=False)


def _never(_: str) -> int:
    return 0
