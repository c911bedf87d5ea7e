"""The one place where numba is switched on."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.core.caching import FunctionCache
from numba.experimental import structref

F = TypeVar("F", bound=Callable[..., Any])


class _KeptCode(FunctionCache):
    """Machine code kept on disk; what names types that are gone since an upgrade is compiled anew."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code kept for argument types, or None."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (AttributeError, ImportError):  # numba reads all that is kept of a loop before it compares
            self.flush()  # type: ignore[no-untyped-call]
            return None


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


def compiled_sums(function: F) -> F:
    """Compile as `compiled` does, with sums in any order, so that long dot products use vector units."""
    return _jit(function, fastmath=_LOOSE_SUMS)


def _jit(function: F, fastmath: bool | set[str]) -> F:
    loop: Any = numba.njit(nogil=True, fastmath=fastmath)(function)
    with contextlib.suppress(RuntimeError):  # no folder to keep it in
        loop._cache = _KeptCode(loop.py_func)  # type: ignore[no-untyped-call]
    return cast("F", loop)


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
