"""The one place where numba is switched on."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.experimental import structref

F = TypeVar("F", bound=Callable[..., Any])
_config: Any = numba.config


def text_of_loops(folder: Path) -> str:
    """Return a short name for what the files of a folder say that hold loops, or types loops take."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.glob("*.py")):
        text = path.read_bytes()
        if b"@compiled" in text or b"NamedTuple" in text:
            digest.update(path.name.encode() + b"\0" + text)
    return digest.hexdigest()


def _cache_folder() -> Path:
    """Return where machine code of just these loops is kept.

    numba looks at the file of a loop alone: it would go on with old code of what the loop calls in other
    files, and fail on code kept for types that are gone.
    """
    here = Path(__file__).parent
    return Path(_config.CACHE_DIR or here / "__pycache__") / f"loops-{text_of_loops(here)}"


_config.CACHE_DIR = str(_cache_folder())
_LOOSE_SUMS = {"reassoc", "contract", "arcp", "nsz"}


def compiled(function: F) -> F:
    """Compile a numeric loop with numba and keep the machine code on disk.

    Parameters
    ----------
    function
        A function over numpy arrays, numbers and named tuples of them.

    Returns
    -------
    The compiled function, with the type of the original. Where no cache folder can be written
    (read-only image without `NUMBA_CACHE_DIR`) it is compiled anew in each process.
    """
    return _jit(function, fastmath=False)


def compiled_borrowing(function: F) -> F:
    """Compile a loop that only borrows arrays as `compiled` does, without counting references to them.

    A count is an atomic operation on a line of memory that is rarely at hand, and a loop that takes arrays
    out of a tuple counts them each time round: half of what a query of the recommender cost. Such a loop
    must make no array (a view is none), call nothing that returns one, and return numbers alone.
    """
    return _jit(function, fastmath=False, counts_references=False)


def compiled_sums(function: F) -> F:
    """Compile as `compiled` does, with sums in any order, so that long dot products use vector units."""
    return _jit(function, fastmath=_LOOSE_SUMS)


def compiled_sums_borrowing(function: F) -> F:
    """Compile as `compiled_sums` and `compiled_borrowing` do."""
    return _jit(function, fastmath=_LOOSE_SUMS, counts_references=False)


def _jit(function: F, fastmath: bool | set[str], *, counts_references: bool = True) -> F:
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "_nrt": counts_references}
    try:
        return cast("F", numba.njit(cache=True, **options)(function))
    except RuntimeError:
        return cast("F", numba.njit(**options)(function))


@structref.register
class _HeldType(types.StructRef):
    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)  # type: ignore[no-untyped-call]


class Held(structref.StructRefProxy):
    """A named tuple of arrays inside compiled code; loops read it as `held.tables`.

    A loop that is handed a tuple takes it apart array by array, a quarter of a microsecond each: as much as
    many loops need for their work. Of what is held it takes one reference. The arrays are shared, so each
    side sees what the other writes; where an array is replaced, the tuple has to be held anew.
    """

    tables: Any

    def __new__(cls, tables: Any) -> "Held":
        """Hold a tuple."""
        return cast("Held", structref.StructRefProxy.__new__(cls, tables))  # type: ignore[no-untyped-call]


structref.define_proxy(Held, _HeldType, ["tables"])  # type: ignore[no-untyped-call]


@compiled
def hold(tables: Any) -> Any:
    """Hold a named tuple of arrays for compiled loops."""
    return Held(tables)
