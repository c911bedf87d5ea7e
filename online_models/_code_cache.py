"""Where compiled loops are kept on disk: one folder for each state of the sources of all loops.

numba looks at the file of a loop alone: machine code in which an older version of another file's loop was
inlined would be taken for fresh, and an index that names a class which is gone cannot be read at all.
"""

import hashlib
from functools import cache
from pathlib import Path

from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator

LOCATORS = ",".join(f"{__name__}.{name}" for name in ("InFolder", "InTree", "OfUser"))
"""In the order in which they are tried, as numba's setting takes them."""


@cache
def _state() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source:
            digest.update(path.name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()[:16]


class InFolder(UserProvidedCacheLocator):
    """In the folder that `NUMBA_CACHE_DIR` names."""

    def get_cache_path(self) -> str:
        """Return the folder of this state."""
        return str(Path(super().get_cache_path()) / _state())  # type: ignore[no-untyped-call]


class InTree(InTreeCacheLocator):
    """Beside the sources."""

    def get_cache_path(self) -> str:
        """Return the folder of this state."""
        return str(Path(super().get_cache_path()) / _state())  # type: ignore[no-untyped-call]


class OfUser(UserWideCacheLocator):
    """In the user's cache, where sources cannot be written beside."""

    def get_cache_path(self) -> str:
        """Return the folder of this state."""
        return str(Path(super().get_cache_path()) / _state())  # type: ignore[no-untyped-call]
