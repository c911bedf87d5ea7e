"""What a lane keeps of closed decisions so that a change of exploration can be told before it is made."""

from collections.abc import Mapping

from state.events import Outcome
from state.evidence import HOUR_MS, Cell, decode_cells, encode_cells, hour_field
from state.retention import EVIDENCE_CELLS, EVIDENCE_HOURS
from stream.effects import Counters, Effects


class Evidence:
    """Sums of slates by surface, hour, segment, rate and number of explored slots.

    Parameters
    ----------
    key
        The hash they are kept in, hour by hour.
    stored
        What it holds.
    counters
        Of the lane: what finds no room is counted.
    """

    def __init__(self, key: str, stored: Mapping[bytes, bytes], counters: Counters) -> None:
        self._key, self._counters = key, counters
        self._hours: dict[tuple[str, int], dict[tuple[str, float, bool, int], Cell]] = {}
        for field, raw in stored.items():
            surface, _, hour = field.decode().rpartition(":")
            self._hours[surface, int(hour)] = {cell.place: cell for cell in decode_cells(raw)}
        self._moved: set[tuple[str, int]] = set()
        self._dropped_to = 0

    def add(self, outcome: Outcome) -> None:
        """Take in a closed decision that tossed coins."""
        coins = outcome.coins
        if coins is None:
            return
        at = outcome.surface, outcome.shown_at // HOUR_MS
        cells = self._hours.setdefault(at, {})
        place = coins.segment, coins.rate, coins.single, coins.tossed + 1
        cell = cells.get(place)
        if cell is None:
            if len(cells) >= EVIDENCE_CELLS:
                self._counters.add("evidence.no_room")
                return
            empty = [0.0] * (coins.tossed + 1)
            cell = cells[place] = Cell(*place[:3], [0] * (coins.tossed + 1), empty, list(empty))
        reward = sum(slot.reward for slot in outcome.slots if not slot.flag)
        cell.counts[coins.explored] += 1
        cell.sums[coins.explored] += reward
        cell.squares[coins.explored] += reward * reward
        cell.fresh += coins.fresh
        cell.fresh_else += coins.fresh_else
        self._moved.add(at)

    def write(self, effects: Effects, watermark: int) -> None:
        """Write the hours that moved, and drop those that are over for long."""
        oldest = watermark // HOUR_MS - EVIDENCE_HOURS
        moved, self._moved = self._moved, set()
        for surface, hour in sorted(at for at in moved if at[1] >= oldest):
            cells = self._hours[surface, hour]
            packed = encode_cells([cells[place] for place in sorted(cells)])
            effects.write(self._key, hour_field(surface, hour), packed)
        known = self._hours if oldest > self._dropped_to else moved  # all others were looked at before
        for surface, hour in sorted(at for at in known if at[1] < oldest):
            del self._hours[surface, hour]
            effects.erase(self._key, hour_field(surface, hour))
        self._dropped_to = oldest
