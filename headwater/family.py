"""What one key family needs of a store."""

from msgspec import Struct

from state.store_memory import StoreLayout, hash_cost

Lengths = tuple[list[int], list[int]]
"""Lengths of a sample of fields: of their names, and of their values."""


class Family(Struct, frozen=True):
    """What one key family needs.

    Attributes
    ----------
    name
        Key family.
    count
        Keys, fields or entries, over all units.
    total
        Bytes, the tables they are found by included.
    """

    name: str
    count: int
    total: float

    @property
    def each(self) -> float:
        """Bytes of one."""
        return self.total / self.count if self.count else 0.0


def hash_family(layout: StoreLayout, name: str, lengths: Lengths, count: int, units: int) -> Family:
    """Return a family of hashes: so many fields, cut evenly over so many units."""
    return Family(name, count, units * hash_cost(layout, *lengths, round(count / units)))
