"""The folder's logic for one model lane: outcomes teach the models of their surface, directives rule them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from online_models.click import VERSION, ClickModel
from online_models.features import FeatureRegistry
from online_models.heads import CLICK, FORMAT, HeadModels
from online_models.ranking import prior_model
from state.events import Directive, Outcome
from state.feed import NamesFeed, encode_feed
from state.keys import (
    counters_key,
    evidence_key,
    learnt_outcomes_key,
    lifecycle_key,
    model_shadows_key,
    model_versions_key,
    models_key,
    redriven_key,
    scoreboard_key,
)
from state.models import Lifecycle, decode_lifecycle, encode_lifecycle
from state.outbox import Arrivals
from state.packing import unpack_arrays
from state.versioned import split_name
from stream.directives import follow, promote_shown
from stream.effects import Counters, Effects, Place
from stream.evidence import Evidence
from stream.learnt import LearntOutcomes
from stream.lessons import lesson_of
from stream.redriven import Redriven
from stream.rows import Row
from stream.scoreboard import Scoreboard
from stream.surface_models import Challenger, SurfaceModels

_SEEN = "seen:"
_NEXT = "o:outcomes"
_HASHES = (
    models_key, model_shadows_key, model_versions_key, lifecycle_key, counters_key, learnt_outcomes_key,
    redriven_key, evidence_key, scoreboard_key,
)  # fmt: skip
Hash = Mapping[bytes, bytes]


class LaneLogic:
    """Learns click models from outcomes; one writer per (surface, lane).

    Parameters
    ----------
    place
        The lane.
    registry
        The features the models are learnt over.
    """

    kinds = ("outcomes", "directives")

    def __init__(self, place: Place, registry: FeatureRegistry) -> None:
        self.place, self._registry = place, registry

    @property
    def hashes(self) -> list[str]:
        """Hash keys to load before the first fold."""
        return [key(self.place.prefix) for key in _HASHES]

    def restore(self, meta: Mapping[str, str], hashes: Mapping[str, dict[bytes, bytes]]) -> None:
        """Take in what the store holds."""
        prefix = self.place.prefix
        self.outbox_number = int(meta.get("outbox", "0"))
        self.counters = Counters(hashes[counters_key(prefix)])
        self.redriven = Redriven(prefix, hashes[redriven_key(prefix)])
        self._arrivals = {k[len(_SEEN) :]: Arrivals(v) for k, v in meta.items() if k.startswith(_SEEN)}
        key = learnt_outcomes_key(prefix)
        self._learnt = LearntOutcomes(key, hashes[key])
        key = evidence_key(prefix)
        self._evidence = Evidence(key, hashes[key], self.counters)
        key = scoreboard_key(prefix)
        self._scoreboard = Scoreboard(key, hashes[key], self.counters)
        self._next = int(meta.get(_NEXT, "0"))
        lives = {name.decode(): decode_lifecycle(raw) for name, raw in hashes[lifecycle_key(prefix)].items()}
        shadows, versions = (
            _by_surface(hashes[key(prefix)]) for key in (model_shadows_key, model_versions_key)
        )
        self.models: dict[str, SurfaceModels] = {}
        for name, raw in hashes[models_key(prefix)].items():
            surface = name.decode()
            life = lives.get(surface, Lifecycle())
            self.models[surface] = self._restored(raw, life, shadows[surface], versions[surface])

    def _restored(
        self, raw: bytes, life: Lifecycle, shadows: Mapping[str, bytes], versions: Mapping[str, bytes]
    ) -> SurfaceModels:
        arrays, document = unpack_arrays(raw)
        if not _is_readable(document) or document["fingerprint"] != self._registry.fingerprint():
            models = SurfaceModels(HeadModels(self._begun_anew(arrays, document)), life)
            models.begin_anew(list(shadows), [int(number) for number in versions])
            return models
        models = SurfaceModels(HeadModels.restore(self._registry, arrays, document), life)
        running = {name: Challenger.unpacked(self._registry, held) for name, held in shadows.items()}
        models.restore(int(document["offset"]), running, {int(n): held for n, held in versions.items()})
        return models

    def _begun_anew(self, arrays: Mapping[str, Any], document: Mapping[str, Any]) -> ClickModel:
        """Return a model over other features than the one stored, with the weights of what both know."""
        prior = prior_model(self._registry)
        if not _is_readable(document):
            return prior
        own = {name[len(CLICK) + 1 :]: held for name, held in arrays.items() if name.startswith(f"{CLICK}.")}
        return ClickModel.warm(self._registry, prior.settings, own, document["heads"][CLICK])

    def next_due(self) -> int | None:
        """Return None: nothing here waits for time."""
        return None

    def wanted(self, rows: Sequence[Row], watermark: int) -> list[str]:  # noqa: ARG002
        """Return no keys: models live in memory."""
        return []

    def put(self, values: Sequence[bytes | None]) -> None:
        """Take in nothing."""

    def fold(self, rows: Sequence[Row], watermark: int) -> Effects:
        """Learn from the outcomes of a micro-batch, surface by surface, and follow directives in between."""
        effects = Effects(self.place, self.counters, self.outbox_number)
        waiting: dict[str, list[Outcome]] = defaultdict(list)
        touched: set[str] = set()
        for row in rows:
            if row.kind == "outcomes":
                self._next = row.offset + 1
            if not self._is_new(row):
                continue
            if row.refusal is not None:
                effects.refuse(row, row.refusal.reason, str(row.refusal))
            elif isinstance(row.event, Directive):
                self.redriven.take(row, effects)
                _, surface = split_name(row.event.name)
                if self._is_followed(surface, row.event):
                    self.counters.add("directives.duplicate")
                    continue
                self._learn(surface, waiting.pop(surface, []))
                self._follow(surface, row.event)
                touched.add(surface)
            elif isinstance(row.event, Outcome) and self._is_first(row.event):
                self.counters.add("outcomes")
                waiting[row.event.surface].append(row.event)
                touched.add(row.event.surface)
                self._evidence.add(row.event)
                self._scoreboard.add(row.event)
                self.redriven.take(row, effects)
        for surface, outcomes in waiting.items():
            self._learn(surface, outcomes)
        self._write(effects, sorted(touched))
        self.redriven.expire(watermark, effects)
        self._learnt.write(effects)
        self._evidence.write(effects, watermark)
        self._scoreboard.write(effects)
        sources = sorted({row.source for row in rows if row.source in self._arrivals})
        effects.change.meta.update({_SEEN + source: self._arrivals[source].encode() for source in sources})
        self.outbox_number = effects.outbox_number
        return effects

    def _is_first(self, outcome: Outcome) -> bool:
        """Drop what was learnt: a shard whose store went back derives outcomes again, under new numbers."""
        if self._learnt.is_new(outcome.event_id):
            return True
        self.counters.add("outcomes.duplicate")
        return False

    def _is_followed(self, surface: str, directive: Directive) -> bool:
        """Return whether a directive was followed: a control unit whose store went back sends it again."""
        models = self.models.get(surface)
        return models is not None and models.has_done(split_name(directive.name)[0], directive.event_id)

    def _is_new(self, row: Row) -> bool:
        """Drop what was seen: a source numbers its messages, and sends them again after a crash."""
        if row.redrive:
            is_again = self.redriven.knows(row)
            if is_again:
                self.counters.add(f"{row.kind}.redriven_again")
            return not is_again
        if row.refusal is not None and not row.number:
            return True
        if self._arrivals.setdefault(row.source, Arrivals()).is_new(row.number):
            return True
        self.counters.add(f"{row.kind}.duplicate")
        return False

    def _of(self, surface: str) -> SurfaceModels:
        models = self.models.get(surface)
        if models is None:
            models = self.models[surface] = SurfaceModels(HeadModels(prior_model(self._registry)))
        return models

    def _learn(self, surface: str, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        ours = self._registry.fingerprint()
        known = [outcome for outcome in outcomes if outcome.versions.features == ours]
        if len(known) < len(outcomes):
            self.counters.add("outcomes.other_features", len(outcomes) - len(known))
        models, at_ms = self._of(surface), max(outcome.occurred_at for outcome in outcomes)
        models.learn(lesson_of(known, len(self._registry)), at_ms, self._next)
        promote_shown(models, at_ms)

    def _follow(self, surface: str, directive: Directive) -> None:
        done = follow(self._of(surface), directive, self._registry)
        self.counters.add("directives" if done else "directives.refused")

    def _write(self, effects: Effects, surfaces: Sequence[str]) -> None:
        prefix = self.place.prefix
        for surface in surfaces:
            models = self.models[surface]
            effects.write(models_key(prefix), surface, models.packed())
            shadows, versions = models.take_moved()
            _write_parts(effects, model_shadows_key(prefix), surface, shadows)
            _write_parts(effects, model_versions_key(prefix), surface, versions)
            # With every commit, however little of it is new: a restart must know what no restart would.
            life = models.told() if models.is_due() else models.lifecycle
            effects.write(lifecycle_key(prefix), surface, encode_lifecycle(life))
        effects.change.feed = encode_feed(NamesFeed(list(surfaces)))


def _is_readable(document: Mapping[str, Any]) -> bool:
    """Return whether stored models have the layout of this release, each head's included."""
    heads = document.get("heads", {})
    return document.get("format") == FORMAT and all(one.get("version") == VERSION for one in heads.values())


def _write_parts(effects: Effects, key: str, surface: str, parts: Mapping[Any, bytes | None]) -> None:
    for name, raw in parts.items():
        if raw is None:
            effects.erase(key, f"{surface}#{name}")
        else:
            effects.write(key, f"{surface}#{name}", raw)


def _by_surface(stored: Hash) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, raw in stored.items():
        surface, _, part = name.decode().partition("#")
        found[surface][part] = raw
    return found
