"""What compiled loops ask of a session's clicks."""

from online_models.arrays import IntArray
from online_models.compiled import compiled_borrowing


@compiled_borrowing
def comes_again(items: IntArray, at: int) -> bool:
    """Return whether the item at a place of a session, oldest first, is met again behind it."""
    for p in range(at + 1, items.shape[0]):  # noqa: SIM110 - compiled loop
        if items[p] == items[at]:
            return True
    return False
