"""Attributes of the live catalogue as columns, so that expressions become masks over all items at once."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import BoolArray, IntArray
from state.events import Attribute
from state.filters import Value
from state.packing import FloatArray

MOST = 256
"""Names of attributes that can be filtered by; a catalogue with more can do so by the first of them."""
_NO_NAMES: tuple[str, ...] = ()


class Column:
    """One attribute of every row: a number, or some texts or truths by code.

    Parameters
    ----------
    rows
        Room for so many.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._numbers: FloatArray | None = None
        self._codes: NDArray[np.int32] | None = None
        self._known: dict[tuple[bool, str], int] = {}

    def grow(self, rows: int) -> None:
        """Make room for more rows."""
        more, self._rows = rows - self._rows, rows
        if self._numbers is not None:
            self._numbers = np.pad(self._numbers, (0, more), constant_values=np.nan)
        if self._codes is not None:
            self._codes = np.pad(self._codes, ((0, more), (0, 0)), constant_values=-1)

    def clear(self, row: int) -> None:
        """Forget a row's value."""
        if self._numbers is not None:
            self._numbers[row] = np.nan
        if self._codes is not None:
            self._codes[row] = -1

    def put(self, row: int, value: Attribute) -> None:
        """Take in a row's value; the row has none before."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self._numbers is None:
                self._numbers = np.full(self._rows, np.nan)
            self._numbers[row] = value
        elif value is not None:
            values = value if isinstance(value, list) else [value]
            codes = [self._known.setdefault(_key(one), len(self._known)) for one in values]
            held = self._room(len(codes))
            held[row, : len(codes)] = codes

    def _room(self, width: int) -> NDArray[np.int32]:
        if self._codes is None:
            self._codes = np.full((self._rows, max(1, width)), -1, np.int32)
        elif width > self._codes.shape[1]:
            more = width - self._codes.shape[1]
            self._codes = np.pad(self._codes, ((0, 0), (0, more)), constant_values=-1)
        return self._codes

    def is_missing(self, rows: IntArray | slice) -> BoolArray:
        """Return which rows have no value."""
        missing = np.ones(self._count(rows), np.bool_)
        if self._numbers is not None:
            missing &= np.isnan(self._numbers[rows])
        if self._codes is not None:
            missing &= self._codes[rows, 0] < 0
        return missing

    def among(self, rows: IntArray | slice, values: Sequence[Value]) -> BoolArray:
        """Return which rows have one of these values, lists where one of theirs is."""
        found = np.zeros(self._count(rows), np.bool_)
        numbers = [one for one in values if isinstance(one, float)]
        if numbers and self._numbers is not None:
            found |= np.isin(self._numbers[rows], numbers)
        keys = [_key(one) for one in values if isinstance(one, str | bool)]
        codes = [self._known[key] for key in keys if key in self._known]
        if codes and self._codes is not None:
            found |= codes_among(self._codes[rows], codes)
        if None in values:
            found |= self.is_missing(rows)
        return found

    def numbers(self, rows: IntArray | slice) -> FloatArray:
        """Return the rows' numbers, nan where they have none."""
        return np.full(self._count(rows), np.nan) if self._numbers is None else self._numbers[rows]

    def _count(self, rows: IntArray | slice) -> int:
        return len(range(*rows.indices(self._rows))) if isinstance(rows, slice) else len(rows)


class Columns:
    """All attributes of the catalogue, a column each.

    Parameters
    ----------
    rows
        Room for so many.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: dict[str, Column] = {}
        self._names: list[tuple[str, ...]] = [_NO_NAMES] * rows
        self._alike: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.nothing = Column(rows)

    def grow(self, rows: int) -> None:
        """Make room for more rows."""
        self._names += [_NO_NAMES] * (rows - self._rows)
        self._rows = rows
        for column in (*self._columns.values(), self.nothing):
            column.grow(rows)

    def put(self, row: int, attributes: Mapping[str, Attribute]) -> None:
        """Take in all attributes of a row, in the place of those it had."""
        for name in self._names[row]:
            self._columns[name].clear(row)
        named = tuple(name for name in attributes if self._has(name))
        for name in named:
            self._columns[name].put(row, attributes[name])
        self._names[row] = self._alike.setdefault(named, named)

    def _has(self, name: str) -> bool:
        if name not in self._columns and len(self._columns) < MOST:
            self._columns[name] = Column(self._rows)
        return name in self._columns

    def of(self, name: str) -> Column:
        """Return the column of an attribute; an empty one of what no item has."""
        return self._columns.get(name, self.nothing)


def codes_among(held: NDArray[np.int32], codes: Sequence[int]) -> BoolArray:
    """Return which rows of codes (n, w) have one of these."""
    return np.asarray(np.isin(held, codes).any(axis=1), np.bool_)


def _key(value: str | bool) -> tuple[bool, str]:
    """Return what a text or a truth is known by: a truth is no text."""
    return isinstance(value, bool), str(value)
