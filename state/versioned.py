"""What every versioned control document carries."""

from msgspec import Struct


def split_name(name: str) -> tuple[str, str]:
    """Return the kind of a document and what it is of, such as ``exploration`` and ``home``."""
    kind, _, key = name.partition("/")
    return kind, key


class Versioned(Struct, kw_only=True):
    """What the engine adds to a document.

    Attributes
    ----------
    version
        Raised by one by each accepted change of the name.
    at
        Event time of the change, ms.
    change
        Id of the control event that made it.
    follows
        The version in force before it.
    changed_by, why, forced
        Who, why, and whether the bounds of steps were set aside.
    restores
        The version whose settings came back, where that is what the change did.
    """

    version: int = 0
    at: int = 0
    change: str = ""
    follows: int = 0
    changed_by: str = ""
    why: str = ""
    forced: bool = False
    restores: int | None = None
