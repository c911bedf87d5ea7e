"""Records a server has read lately: what visitors may not be shown, for when the store does not answer."""

from collections import OrderedDict

from state.subject import SubjectRecord

MOST, FOR_S = 5_000, 600.0
"""Records kept, the longest unread go first, and seconds after which one is no longer used."""


class Remembered:
    """The last word on some subjects, forgotten with every erasure: of whom it was is not asked."""

    def __init__(self) -> None:
        self._erasures = 0
        self._held: OrderedDict[str, tuple[float, SubjectRecord]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def heed(self, erasures: int) -> None:
        """Forget everything if there have been erasures since the last call."""
        if erasures != self._erasures:
            self._erasures = erasures
            self._held.clear()

    def note(self, subject: str, record: SubjectRecord, now: float) -> None:
        """Take note of a record as read at a time, s."""
        self._held[subject] = now, record
        self._held.move_to_end(subject)
        if len(self._held) > MOST:
            self._held.popitem(last=False)

    def of(self, subject: str, now: float) -> SubjectRecord | None:
        """Return the record read last; None where that is too long ago."""
        at, record = self._held.get(subject, (0.0, None))
        return record if now - at <= FOR_S else None
