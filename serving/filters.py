"""Expressions over item attributes as masks over the live catalogue: made once, mended as items change."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import reduce

import numpy as np
from msgspec import Struct

from bandits.arrays import BoolArray, IntArray
from serving.columns import Column, codes_among
from serving.items import ItemTable
from state.filters import All, Among, Any, Compare, Expression, Not, Value, parse_filter

MOST = 256
"""Expressions whose masks are held, the least used go first."""
MOST_BYTES = 64_000_000
_ATTRIBUTES = "attributes."


class _Held(Struct):
    """A mask (rows,), and how many changes of the catalogue it knows."""

    expression: Expression
    mask: BoolArray
    changes: int


class Filters:
    """Masks of expressions over one catalogue.

    Parameters
    ----------
    items
        The catalogue.
    """

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def mask(self, text: str) -> BoolArray:
        """Return for every row, of items and of the room for more, whether an expression holds; read only.

        Raises
        ------
        Refusal
            If the expression cannot be understood.
        """
        return self._mask(text, lambda: parse_filter(text))

    def allowed(self, wished: str | None, hides: Sequence[str]) -> BoolArray | None:
        """Return for every row whether it is wished and nothing hides it; None for all of them; read only.

        Raises
        ------
        Refusal
            If an expression cannot be understood.
        """
        if wished is None and not hides:
            return None

        def joined() -> Expression:
            asked = () if wished is None else (parse_filter(wished),)
            return All((*asked, *(Not(parse_filter(one)) for one in hides)))

        return self._mask((wished, *hides), joined)

    def _mask(self, key: Hashable, parsed: Callable[[], Expression]) -> BoolArray:
        held, rows = self._held.get(key), len(self._items.available)
        if held is None or len(held.mask) != rows:
            expression = parsed()
            whole = evaluate(expression, self._items, slice(0, rows))
            held = self._held[key] = _Held(expression, whole, self._items.changes)
            while len(self._held) > max(1, min(MOST, MOST_BYTES // rows)):
                self._held.popitem(last=False)
        elif held.changes != self._items.changes:
            self._mend(held)
        self._held.move_to_end(key)
        return held.mask

    def _mend(self, held: _Held) -> None:
        """Look again at the rows that changed since."""
        changed = self._items.changed_since(held.changes)
        if changed is None:
            held.mask[:] = evaluate(held.expression, self._items, slice(0, len(held.mask)))
        else:
            held.mask[changed] = evaluate(held.expression, self._items, changed)
        held.changes = self._items.changes


def evaluate(expression: Expression, items: ItemTable, rows: IntArray | slice) -> BoolArray:
    """Return for which rows an expression holds; what is missing equals nothing and has no order."""
    match expression:
        case Not(of):
            return ~evaluate(of, items, rows)
        case All(parts):
            return reduce(np.logical_and, [evaluate(part, items, rows) for part in parts])
        case Any(parts):
            return reduce(np.logical_or, [evaluate(part, items, rows) for part in parts])
        case Among(name, values):
            return _among(name, values, items, rows)
        case Compare(name, "==", value):
            return _among(name, (value,), items, rows)
        case Compare(name, operator, value):
            assert isinstance(value, float)
            return _ORDERS[operator](_numbers(name, items, rows), value)


_ORDERS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


def _among(name: str, values: Sequence[Value], items: ItemTable, rows: IntArray | slice) -> BoolArray:
    if name in ("category", "categories"):
        codes = items.codes_of([one for one in values if isinstance(one, str)])
        held = items.codes[rows]
        found = codes_among(held, codes) if codes else np.zeros(len(held), np.bool_)
        return found | (held[:, 0] < 0) if None in values else found
    if name == "item_id":
        wanted = np.zeros(len(items.available), np.bool_)
        wanted[items.rows([one for one in values if isinstance(one, str)])] = True
        return wanted[rows]
    if name == "published_at":
        found = np.isin(_numbers(name, items, rows), [one for one in values if isinstance(one, float)])
        return found | (items.published_at[rows] == 0) if None in values else found
    return _column(name, items).among(rows, values)


def _numbers(
    name: str, items: ItemTable, rows: IntArray | slice
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if name == "published_at":
        published = items.published_at[rows]
        return np.where(published > 0, published.astype(np.float64), np.nan)
    return _column(name, items).numbers(rows)


def _column(name: str, items: ItemTable) -> Column:
    return items.columns.of(name.removeprefix(_ATTRIBUTES))
