"""The one place where numba is switched on."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


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
    try:
        return cast("F", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast("F", numba.njit(nogil=True)(function))
