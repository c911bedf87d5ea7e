"""A synthetic shop: a catalogue, visitors' sessions, and what would have been learnt of them."""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from state.events import Item

MEAN_LENGTH = 5
HOUR_MS = 3_600_000
IntArray = NDArray[np.int64]


class Shop(Struct, frozen=True):
    """Sizes of a shop and the clock time it is seen at.

    Attributes
    ----------
    items, sessions
        How many.
    now_ms
        Sessions lie in the day before.
    seed
        Of everything random.
    """

    items: int
    sessions: int
    now_ms: int
    seed: int

    def catalogue(self) -> Iterator[Item]:
        """Yield the items, published over the last year."""
        rng = np.random.default_rng([self.seed, 1])
        kinds, brands = rng.integers(0, 60, self.items), rng.integers(0, 400, self.items)
        ages = rng.integers(0, 365 * 24, self.items)
        for n, (kind, brand, age) in enumerate(zip(kinds, brands, ages, strict=True)):
            yield Item(
                event_id=f"catalogue-{n}",
                occurred_at=self.now_ms,
                item_id=item_id(n),
                title=f"Article {n} of brand {brand}",
                categories=[f"kind-{kind}", f"aisle-{kind % 9}"],
                attributes={"brand": f"brand-{brand}", "price": float(brand % 97)},
                published_at=int(self.now_ms - age * HOUR_MS),
            )

    def lengths(self) -> IntArray:
        """Return the length of each session (sessions,): geometric, mean 5, at most 50."""
        rng = np.random.default_rng([self.seed, 2])
        return np.minimum(rng.geometric(1 / MEAN_LENGTH, self.sessions), 50)

    def picks(self, count: int) -> IntArray:
        """Return items (count,) as visitors pick them: Zipf(1), popularity independent of the number."""
        rng = np.random.default_rng([self.seed, 3])
        weights = 1.0 / np.arange(1, self.items + 1)
        ranks = rng.choice(self.items, size=count, p=weights / weights.sum())
        return rng.permutation(self.items)[ranks].astype(np.int64)

    def visits(self) -> Iterator[tuple[str, list[str], list[int]]]:
        """Yield user, items and times of each session, oldest first."""
        lengths = self.lengths()
        picks, ends = self.picks(int(lengths.sum())), np.cumsum(lengths)
        starts = np.linspace(self.now_ms - 24 * HOUR_MS, self.now_ms - HOUR_MS, self.sessions).astype(
            np.int64
        )
        for n, (end, length, start) in enumerate(zip(ends, lengths, starts, strict=True)):
            items = [item_id(i) for i in picks[end - length : end].tolist()]
            yield user_id(n), items, [int(start) + 20_000 * place for place in range(len(items))]


def item_id(number: int) -> str:
    """Return an item's id."""
    return f"item-{number:06d}"


def user_id(number: int) -> str:
    """Return a user's id."""
    return f"user-{number:06d}"
