"""The folder's logic for one model lane: outcomes teach the click model of their surface."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from online_models.click import ClickModel
from online_models.features import FeatureRegistry
from online_models.ranking import prior_model
from state.events import Outcome
from state.feed import NamesFeed, encode_feed
from state.keys import (
    counters_key,
    evidence_key,
    learnt_outcomes_key,
    models_key,
    redriven_key,
    scoreboard_key,
)
from state.outbox import Arrivals
from state.packing import FloatArray, from_base64, pack_arrays, unpack_arrays
from stream.effects import Counters, Effects, Place
from stream.evidence import Evidence, Scoreboard
from stream.learnt import LearntOutcomes
from stream.redriven import Redriven
from stream.rows import Row

_SEEN = "seen:"
_HASHES = (models_key, counters_key, learnt_outcomes_key, redriven_key, evidence_key, scoreboard_key)


class LaneLogic:
    """Learns click models from outcomes; one writer per (surface, lane).

    Parameters
    ----------
    place
        The lane.
    registry
        The features the models are learnt over.
    """

    kinds = ("outcomes",)

    def __init__(self, place: Place, registry: FeatureRegistry) -> None:
        self.place, self._registry = place, registry

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""
        prefix = self.place.prefix
        return [key(prefix) for key in _HASHES]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(self.place.prefix)])
        self.redriven = Redriven(self.place.prefix, hashes[redriven_key(self.place.prefix)])
        self._arrivals = {k[len(_SEEN) :]: Arrivals(v) for k, v in meta.items() if k.startswith(_SEEN)}
        key = learnt_outcomes_key(self.place.prefix)
        self._learnt = LearntOutcomes(key, hashes[key])
        key = evidence_key(self.place.prefix)
        self._evidence = Evidence(key, hashes[key], self.counters)
        key = scoreboard_key(self.place.prefix)
        self._scoreboard = Scoreboard(key, hashes[key], self.counters)
        self._models = {}
        for name, raw in hashes[models_key(self.place.prefix)].items():
            self._models[name.decode()] = self._restored(raw)

    def _restored(self, raw: bytes) -> ClickModel:
        arrays, document = unpack_arrays(raw)
        if document["fingerprint"] != self._registry.fingerprint():
            return prior_model(self._registry)  # learnt over other features: it has to begin again
        return ClickModel.restore(self._registry, arrays, document)

    def next_due(self) -> int | None:
        """Return None: nothing here waits for time."""
        return None

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:  # noqa: ARG002
        """Return no keys: models live in memory."""
        return []

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in nothing."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        """Learn from the outcomes of a micro-batch, surface by surface."""
        effects = Effects(self.place, self.counters, self.outbox_number)
        by_surface: dict[str, list[Outcome]] = defaultdict(list)
        following = rows[-1].offset + 1 if rows else 0
        for row in rows:
            if not self._is_new(row):
                continue
            if row.refusal is not None:
                effects.refuse(row, row.refusal.reason, str(row.refusal))
            elif isinstance(row.event, Outcome) and self._is_first(row.event):
                self.counters.add("outcomes")
                by_surface[row.event.surface].append(row.event)
                self._evidence.add(row.event)
                self._scoreboard.add(row.event)
                self.redriven.take(row, effects)
        for surface, outcomes in by_surface.items():
            self._learn(surface, outcomes, (effects, following))
        self.redriven.expire(watermark, effects)
        self._learnt.write(effects)
        self._evidence.write(effects, watermark)
        self._scoreboard.write(effects)
        effects.change.feed = encode_feed(NamesFeed(sorted(by_surface)))
        effects.change.meta.update({_SEEN + source: a.encode() for source, a in self._arrivals.items()})
        self.outbox_number = effects.outbox_number
        return effects

    def _is_first(self, outcome: Outcome) -> bool:
        """Drop what was learnt: a shard whose store went back derives outcomes again, under new numbers."""
        if self._learnt.is_new(outcome.event_id):
            return True
        self.counters.add("outcomes.duplicate")
        return False

    def _is_new(self, row: Row) -> bool:
        """Drop what was seen: a source numbers its messages, and sends them again after a crash."""
        if row.redrive:
            return not self._is_redriven_again(row)
        if row.refusal is not None and not row.number:
            return True
        if self._arrivals.setdefault(row.source, Arrivals()).is_new(row.number):
            return True
        self.counters.add("outcomes.duplicate")
        return False

    def _is_redriven_again(self, row: Row) -> bool:
        is_again = self.redriven.is_again(row) or self.redriven.is_copy(row)
        if is_again:
            self.counters.add("outcomes.redriven_again")
        return is_again

    def _learn(self, surface: str, outcomes: Sequence[Outcome], to: tuple[Effects, int]) -> None:
        effects, following = to
        model = self._models.get(surface)
        if model is None:
            model = self._models[surface] = prior_model(self._registry)
        blocks, rewards = [], []
        for outcome in outcomes:
            rows = learnable_rows(outcome, len(self._registry))
            blocks.append(rows[0])
            rewards.append(rows[1])
        features, clicked = np.concatenate(blocks), np.concatenate(rewards)
        if len(features):
            model.learn_many(features, clicked)
        arrays, document = model.snapshot()
        document["offset"] = following  # all outcomes before it, and none after, are in the model
        effects.write(models_key(self.place.prefix), surface, pack_arrays(arrays, document))


def learnable_rows(outcome: Outcome, width: int) -> tuple[FloatArray, FloatArray]:
    """Return features (n, f) and clicks (n,) of an outcome's slots; none for other features."""
    features = from_base64(outcome.features)
    if features.size != len(outcome.slots) * width:
        return np.empty((0, width)), np.empty(0)
    rewards = np.array([float(slot.reward > 0 and not slot.defaulted) for slot in outcome.slots])
    return features.reshape(-1, width), rewards
