"""Finding the one record a fold cannot take, so that it stops neither its unit nor the worker."""

from collections.abc import Sequence

from state.decoding import Refusal
from stream.rows import Row


class Isolation:
    """Decides how many rows to fold at once, and which to refuse, after a fold has failed unexpectedly.

    After a failure rows are folded one at a time, until all that failed together have passed. A row that
    fails alone is refused, and goes to the dead letters; if the fold fails even then, the row was not to
    blame, and it is taken as it is when the unit tries again.
    """

    def __init__(self) -> None:
        self._singly = 0
        self._refused: dict[tuple[str, int], Refusal] = {}

    def most(self, wished: int) -> int:
        """Return how many rows the next fold may take."""
        return 1 if self._singly else wished

    def mark(self, rows: Sequence[Row]) -> None:
        """Refuse the rows found guilty."""
        for row in rows:
            refusal = self._refused.get((row.kind, row.offset))
            if refusal is not None:
                row.event, row.refusal = None, refusal

    def passed(self, rows: Sequence[Row]) -> None:
        """Note a commit of these rows."""
        self._singly = max(0, self._singly - len(rows))
        for row in rows:
            self._refused.pop((row.kind, row.offset), None)

    def failed(self, rows: Sequence[Row], error: Exception) -> bool:
        """Note a failed fold; returns whether trying again at once has a chance."""
        self._singly = max(self._singly, len(rows))
        if len(rows) != 1:
            return bool(rows)
        key = (rows[0].kind, rows[0].offset)
        if self._refused.pop(key, None) is not None:
            return False
        self._refused[key] = fold_failed(repr(error))
        return True


def fold_failed(error: str) -> Refusal:
    """Return the refusal of a row no fold could take."""
    return Refusal("fold_failed", "value", error, "an event this version can fold")
