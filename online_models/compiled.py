"""The one place where numba is switched on."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


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
    try:
        return cast("F", numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:
        return cast("F", numba.njit(nogil=True, fastmath=fastmath)(function))
