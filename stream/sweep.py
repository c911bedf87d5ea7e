"""What a shard forgets of items nobody touches: rules of event time, part of the fold like all else."""

from collections.abc import Iterable, Mapping

import numpy as np

from online_models.trends import Trends
from state.keys import learnt_key
from state.retention import DAY_MS, SWEEP_MS, TREND_FLOOR
from stream.effects import Effects


def sweep_due(before_ms: int, watermark: int) -> bool:
    """Return whether a sweep falls between two watermarks."""
    return watermark // SWEEP_MS > before_ms // SWEEP_MS


def negligible(trends: Trends, rows: Mapping[str, int], at_ms: int) -> list[str]:
    """Return the items whose decayed counts have sunk below the floor under every half-life."""
    if not rows:
        return []
    items = np.array(list(rows), dtype=object)
    counts = trends.scores(np.fromiter(rows.values(), np.int64, len(rows)), at_ms)
    return sorted(items[(counts < TREND_FLOOR).all(axis=1)].tolist())


class LearntDays:
    """On which day of event time each item's bandit block last learnt.

    Parameters
    ----------
    prefix
        Key prefix of the shard.
    stored
        The hash as loaded.
    life_ms
        How long a block stays after that.
    """

    def __init__(self, prefix: str, stored: Mapping[bytes, bytes], life_ms: int) -> None:
        self._key, self._life_ms = learnt_key(prefix), life_ms
        self._days = {name.decode(): int(raw) for name, raw in stored.items()}

    def note(self, items: Iterable[str], at_ms: int, effects: Effects) -> None:
        """Note that blocks learnt; written once a day and item."""
        day = at_ms // DAY_MS
        for item_id in items:
            if self._days.get(item_id) != day:
                self._days[item_id] = day
                effects.write(self._key, item_id, str(day).encode())

    def take_old(self, held: Iterable[str], at_ms: int, effects: Effects) -> list[str]:
        """Take out the blocks that have learnt nothing for their life; one never noted begins it now."""
        self.note((item_id for item_id in sorted(held) if item_id not in self._days), at_ms, effects)
        oldest = (at_ms - self._life_ms) // DAY_MS
        old = sorted(item_id for item_id, day in self._days.items() if day < oldest)
        for item_id in old:
            del self._days[item_id]
            effects.erase(self._key, item_id)
        return old
