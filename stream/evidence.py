"""What a lane keeps of closed decisions so that a change of exploration can be told before it is made."""

from collections.abc import Mapping

import numpy as np

from bandits.ope.shadow import ShadowEvaluation
from state.events import Outcome
from state.evidence import (
    HOUR_MS,
    Cell,
    Sight,
    decode_cells,
    encode_cells,
    hour_field,
    shadow_field,
    sight_of,
)
from state.packing import FloatArray, from_base64, pack_arrays, unpack_arrays
from state.retention import EVIDENCE_CELLS, EVIDENCE_HOURS, SHADOWS_CAP
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
        for surface, hour in sorted(self._moved):
            cells = self._hours[surface, hour]
            packed = encode_cells([cells[place] for place in sorted(cells)])
            effects.write(self._key, hour_field(surface, hour), packed)
        self._moved.clear()
        for surface, hour in sorted(at for at in self._hours if at[1] < oldest):
            del self._hours[surface, hour]
            effects.erase(self._key, hour_field(surface, hour))


class Scoreboard:
    """Sums of shadow policies; a new version of the shadow or of the exploration begins anew.

    Parameters
    ----------
    key
        The hash they are kept in, shadow by shadow.
    stored
        What it holds.
    counters
        Of the lane: what finds no room is counted.
    """

    def __init__(self, key: str, stored: Mapping[bytes, bytes], counters: Counters) -> None:
        self._key, self._counters = key, counters
        self._seen: dict[str, tuple[Sight, ShadowEvaluation]] = {}
        for field, raw in stored.items():
            arrays, document = unpack_arrays(raw)
            self._seen[field.decode()] = sight_of(document), ShadowEvaluation.restore(arrays)
        self._moved: set[str] = set()

    def add(self, outcome: Outcome) -> None:
        """Take in what each shadow's weights say of a closed decision."""
        for named, packed in outcome.shadows.items():
            shadow, _, version = named.rpartition("@")
            weights = from_base64(packed)
            if weights.size and version.isdigit():
                self._add(shadow_field(outcome.surface, shadow), int(version), (outcome, weights))

    def _add(self, field: str, version: int, given: tuple[Outcome, FloatArray]) -> None:
        outcome, weights = given
        sight = Sight(version, outcome.versions.exploration, outcome.shown_at, outcome.shown_at)
        held = self._seen.get(field)
        if held is None and len(self._seen) >= SHADOWS_CAP:
            self._counters.add("scoreboard.no_room")
            return
        if held is not None and held[0].versions > sight.versions:
            self._counters.add("scoreboard.outdated")
            return
        if held is None or held[0].versions < sight.versions:
            held = self._seen[field] = sight, ShadowEvaluation()
        held[0].since, held[0].until = min(held[0].since, sight.since), max(held[0].until, sight.until)
        rewards = np.zeros(len(weights))
        for slot in outcome.slots:
            if slot.position < len(rewards) and not slot.flag:
                rewards[slot.position] = slot.reward
        held[1].add(weights, rewards)
        self._moved.add(field)

    def write(self, effects: Effects) -> None:
        """Write the shadows that moved."""
        for field in sorted(self._moved):
            sight, sums = self._seen[field]
            document = {name: getattr(sight, name) for name in Sight.__struct_fields__}
            effects.write(self._key, field, pack_arrays(sums.snapshot(), document))
        self._moved.clear()
