"""What a lane sums up of shadow policies: each beside the exploration that was served."""

from collections.abc import Iterator, Mapping

import numpy as np

from bandits.ope.shadow import ShadowEvaluation
from state.events import Outcome
from state.evidence import Sight, shadow_field, sight_of
from state.exploration import DEEPEST
from state.packing import FloatArray, from_base64, pack_arrays, unpack_arrays
from state.retention import SHADOW_SILENT_MS, SHADOWS_CAP
from stream.effects import Counters, Effects

Board = tuple[Sight, ShadowEvaluation]
Boards = dict[int, Board]
_MOST_AT_A_TIME = DEEPEST + 1
"""Versions of an exploration that can come back by themselves, and the one in force."""


class Scoreboard:
    """Sums of shadow policies, by the version of the exploration that was served.

    A new version of a shadow begins anew. Under a change for a time sums begin beside those of before, which
    go on where they stood once it has ended.

    Parameters
    ----------
    key
        The hash they are kept in.
    stored
        What it holds.
    counters
        Of the lane: what finds no room is counted.
    """

    def __init__(self, key: str, stored: Mapping[bytes, bytes], counters: Counters) -> None:
        self._key, self._counters = key, counters
        self._seen: dict[tuple[str, str], Boards] = {}
        self._moved: set[tuple[str, str, int]] = set()
        self._gone: set[str] = set()
        for field, raw in stored.items():
            self._restore(field.decode(), raw)

    def _restore(self, field: str, raw: bytes) -> None:
        arrays, document = unpack_arrays(raw)
        sight, (surface, _, rest) = sight_of(document), field.partition(":")
        shadow = rest.partition("@")[0]
        self._seen.setdefault((surface, shadow), {})[sight.exploration] = (
            sight,
            ShadowEvaluation.restore(arrays),
        )
        if field != shadow_field(surface, shadow, sight.exploration):  # as releases before wrote it
            self._gone.add(field)
            self._moved.add((surface, shadow, sight.exploration))

    def add(self, outcome: Outcome) -> None:
        """Take in what each shadow's weights say of a closed decision."""
        for named, packed in outcome.shadows.items():
            shadow, _, version = named.rpartition("@")
            weights = from_base64(packed)
            if not weights.size or not version.isdigit():
                continue
            board = self._board(shadow, int(version), outcome)
            if board is None:
                continue
            sight, sums = board
            sight.since = min(sight.since, outcome.shown_at)
            sight.until = max(sight.until, outcome.shown_at)
            sums.add(weights, _rewards(outcome, len(weights)))
            self._moved.add((outcome.surface, shadow, sight.exploration))

    def _board(self, shadow: str, version: int, outcome: Outcome) -> Board | None:
        """Return the sums an outcome belongs to; None where a later shadow has taken over, or no room is."""
        place, exploration = (outcome.surface, shadow), outcome.versions.exploration
        boards = self._seen.get(place, {})
        newest = max((sight.version for sight, _ in boards.values()), default=version)
        if version < newest:
            self._counters.add("scoreboard.outdated")
            return None
        if version > newest:
            for old in list(boards):
                self._drop(place, old)
        if exploration not in self._seen.get(place, {}):
            if not self._make_room(place, outcome.shown_at):
                self._counters.add("scoreboard.no_room")
                return None
            sight = Sight(version, exploration, outcome.shown_at, outcome.shown_at)
            self._seen.setdefault(place, {})[exploration] = sight, ShadowEvaluation()
        return self._seen[place][exploration]

    def _make_room(self, place: tuple[str, str], at_ms: int) -> bool:
        """Drop sums for new ones of a shadow where there are too many; returns whether there is room."""
        boards = self._seen.get(place, {})
        if len(boards) >= _MOST_AT_A_TIME:
            self._drop(
                place, min(boards, key=lambda exploration: (boards[exploration][0].until, exploration))
            )
            return True
        if sum(map(len, self._seen.values())) < SHADOWS_CAP:
            return True
        until, surface, shadow, silent = min(self._ages())
        if until > at_ms - SHADOW_SILENT_MS:
            return False
        self._drop((surface, shadow), silent)
        return True

    def _ages(self) -> Iterator[tuple[int, str, str, int]]:
        for place, boards in self._seen.items():
            for exploration, (sight, _) in boards.items():
                yield sight.until, *place, exploration

    def _drop(self, place: tuple[str, str], exploration: int) -> None:
        boards = self._seen[place]
        del boards[exploration]
        if not boards:
            del self._seen[place]
        self._gone.add(shadow_field(*place, exploration))

    def write(self, effects: Effects) -> None:
        """Write the sums that moved, and erase those that made room."""
        for field in sorted(self._gone):
            effects.erase(self._key, field)
        for surface, shadow, exploration in sorted(self._moved):
            board = self._seen.get((surface, shadow), {}).get(exploration)
            if board is not None:
                sight, sums = board
                document = {name: getattr(sight, name) for name in Sight.__struct_fields__}
                field = shadow_field(surface, shadow, exploration)
                effects.write(self._key, field, pack_arrays(sums.snapshot(), document))
        self._moved.clear()
        self._gone.clear()


def _rewards(outcome: Outcome, slots: int) -> FloatArray:
    rewards = np.zeros(slots)
    for slot in outcome.slots:
        if slot.position < slots and not slot.flag:  # what was pinned, nobody chose
            rewards[slot.position] = slot.reward
    return rewards
