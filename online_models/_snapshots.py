"""Snapshots of tables: which arrays are state, under which names; working memory is made anew."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def copied(tables: Any, fields: Iterable[str]) -> Arrays:
    """Copy some arrays of a named tuple."""
    return {field: getattr(tables, field).copy() for field in fields}


def filled(tables: Any, arrays: Mapping[str, NDArray[Any]], fields: Iterable[str]) -> Any:
    """Put the arrays of a snapshot into a named tuple.

    Raises
    ------
    ValueError
        If one is missing or has another type or number of axes.
    """
    for field in fields:
        held, wished = arrays.get(field), getattr(tables, field)
        if held is None or held.dtype != wished.dtype or held.ndim != wished.ndim:
            met = "none" if held is None else f"{held.dtype} of {held.ndim} axes"
            msg = f"snapshot's {field} is {met}, wanted {wished.dtype} of {wished.ndim} axes"
            raise ValueError(msg)
    return tables._replace(**{field: np.array(arrays[field]) for field in fields})


def within(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Give the arrays of a part their names in the whole."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def part_of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Take the arrays of a part out of the whole."""
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
