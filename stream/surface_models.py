"""The models of one surface in one lane: champion, shadows and kept versions, and how they learn."""

import zlib
from collections.abc import Mapping, Sequence

from online_models.evidence import Comparison, by_outcome
from online_models.features import FeatureRegistry
from online_models.heads import HeadModels
from online_models.segments import Judged
from state.models import Lifecycle, Shadow, Step, Version
from state.packing import pack_arrays, unpack_arrays
from state.retention import DAY_MS, MODEL_STEPS_KEPT, MODEL_VERSIONS_KEPT
from stream.lessons import Lesson
from stream.model_facts import evidence_of, heads_facts, known, segment_facts

_REFRESH_ROWS = 2_000
"""Rows between two refreshes of the measures; fewer while there are few."""


class Challenger:
    """A shadow's models, and how its losses compare with the champion's.

    Parameters
    ----------
    heads
        Its models.
    comparison
        Of outcomes both have judged before either learnt them.
    """

    def __init__(self, heads: HeadModels, comparison: Comparison | None = None) -> None:
        self.heads, self.comparison = heads, comparison or Comparison()

    def packed(self, offset: int) -> bytes:
        """Return it as stored."""
        arrays, document = self.heads.snapshot()
        return pack_arrays(arrays, document | {"comparison": self.comparison.totals(), "offset": offset})

    @classmethod
    def unpacked(cls, registry: FeatureRegistry, raw: bytes) -> "Challenger":
        """Return what `packed` stored."""
        arrays, document = unpack_arrays(raw)
        heads = HeadModels.restore(registry, arrays, document)
        return cls(heads, Comparison.restore(document["comparison"]))


class SurfaceModels:
    """Champion, shadows and versions of one surface.

    Parameters
    ----------
    heads
        The champion's models.
    lifecycle
        What else is known of them.
    """

    def __init__(self, heads: HeadModels, lifecycle: Lifecycle | None = None) -> None:
        self.heads, self.lifecycle = heads, lifecycle or Lifecycle()
        self.shadows: dict[str, Challenger] = {}
        self.versions: dict[int, bytes] = {}
        self.offset = 0
        self._raw: bytes | None = None  # the champion as stored, while it is what was put back
        self._moved: set[int] = set()
        self._stopped: set[str] = set()
        self._learnt: set[str] = set()  # shadows that are not stored as they are
        self._is_told = False

    def restore(self, offset: int, shadows: Mapping[str, Challenger], versions: Mapping[int, bytes]) -> None:
        """Take in what is stored beside champion and lifecycle."""
        self.offset, self.shadows, self.versions = offset, dict(shadows), dict(versions)
        self._is_told = True

    def begin_anew(self, shadows: Sequence[str], versions: Sequence[int]) -> None:
        """Leave behind what is stored of models over other features; who decides, and the history, stay."""
        life = self.lifecycle
        ended = f"shadows {sorted(shadows)} and versions {sorted(versions)} ended with them"
        self.lifecycle = Lifecycle(number=life.number, promotes=life.promotes, updated=life.updated)
        self.lifecycle.steps = life.steps
        self._stopped, self._moved = set(shadows), set(versions)
        self.note(Step(life.updated, "features", done=True, detail=f"features or layout changed: {ended}"))

    def has_done(self, what: str, asked: str) -> bool:
        """Return whether the history knows of one thing that was asked for, done or refused."""
        return any(step.asked == asked and step.what == what for step in self.lifecycle.steps)

    def learn(self, lesson: Lesson, at_ms: int, offset: int) -> None:
        """Learn from outcomes that closed up to `at_ms`, event time; `offset` is the first not among them."""
        self._keep_of_yesterday(at_ms)
        life = self.lifecycle
        life.began, life.updated, self.offset = life.began or at_ms, max(at_ms, life.updated), offset
        life.outcomes += lesson.outcomes
        if not len(lesson.inputs):
            return
        self._raw, alarms = None, self.heads.click.drift.alarms
        probabilities, losses = self.heads.learn(lesson.inputs, lesson.labels)
        judged = Judged(lesson.labels.clicks, probabilities, losses)
        self.heads.segments.update(lesson.inputs, judged, lesson.facets, lesson.owners)
        if self.heads.click.drift.alarms > alarms:
            self._note_drift(at_ms)
        for shadow in self.shadows.values():
            _, theirs = shadow.heads.learn(lesson.inputs, lesson.labels)
            shadow.comparison.update(by_outcome(theirs - losses, lesson.owners, lesson.outcomes))
        self._learnt |= set(self.shadows)

    def _keep_of_yesterday(self, at_ms: int) -> None:
        """Keep the champion as it was when a day of event time began."""
        life = self.lifecycle
        before = max((version.at for version in life.versions), default=life.began)
        if life.began and at_ms // DAY_MS > before // DAY_MS:
            self.keep(at_ms, "a day began")

    def _note_drift(self, at_ms: int) -> None:
        error, memory = self.heads.click.drift.mean_error, self.heads.click.memory_rows
        detail = f"mean error {error:+.4f} a slot; memory shortened to {memory:,.0f} rows"
        self.note(Step(at_ms, "drift", done=True, detail=detail))

    def note(self, step: Step) -> None:
        """Write a step into the history; the oldest make room."""
        self.lifecycle.steps = [*self.lifecycle.steps, step][-MODEL_STEPS_KEPT:]
        self._is_told = False

    def keep(self, at_ms: int, why: str, label: str = "") -> Version:
        """Keep the champion as a version; of named and of nameless ones the oldest make room."""
        life = self.lifecycle
        life.number += 1
        raw, judged = self.packed(), self.heads.click.report()
        loss = known(judged.log_loss)
        version = Version(life.number, label, at_ms, self.offset, judged.rows, loss, zlib.crc32(raw), why)
        named = [one for one in life.versions if one.label and one.label != label]
        others = [one for one in life.versions if not one.label]
        (named if label else others).append(version)
        kept = [*others[-MODEL_VERSIONS_KEPT:], *named[-MODEL_VERSIONS_KEPT:]]
        life.versions = sorted(kept, key=lambda one: one.number)
        self.versions[version.number] = raw
        gone = set(self.versions) - {one.number for one in kept}
        self._moved |= gone | {version.number}
        self.versions = {number: held for number, held in self.versions.items() if number not in gone}
        self._is_told = False
        return version

    def put_back(self, version: Version, raw: bytes, registry: FeatureRegistry) -> None:
        """Make a version the champion again, to the last bit of what was kept of it."""
        self.heads, self._raw = HeadModels.restore(registry, *unpack_arrays(raw)), raw
        self._begin_comparisons()
        self.lifecycle.champion = version.number

    def promote(self, name: str, at_ms: int) -> Version:
        """Make a shadow the champion; returns the version kept of it as it was then."""
        self.heads, self._raw = self.shadows[name].heads, None
        self.stop(name)
        self._begin_comparisons()
        version = self.keep(at_ms, f"promoted {name}")
        self.lifecycle.champion = version.number
        return version

    def _begin_comparisons(self) -> None:
        for shadow in self.shadows.values():
            shadow.comparison = Comparison()
        self._learnt |= set(self.shadows)

    def start(self, name: str, challenger: Challenger, about: Shadow) -> None:
        """Let a shadow learn beside the champion."""
        self.shadows[name], self.lifecycle.shadows[name] = challenger, about
        self._learnt.add(name)
        self._stopped.discard(name)

    def stop(self, name: str) -> None:
        """End a shadow."""
        del self.shadows[name], self.lifecycle.shadows[name]
        self._learnt.discard(name)
        self._stopped.add(name)

    def packed(self) -> bytes:
        """Return the champion as stored; one that was put back and has not learnt since, as it was kept."""
        if self._raw is not None:
            return self._raw
        arrays, document = self.heads.snapshot()
        document["offset"] = self.offset  # all outcomes before it, and none after, are in the model
        return pack_arrays(arrays, document)

    def take_moved(self) -> tuple[dict[str, bytes | None], dict[int, bytes | None]]:
        """Return shadows and versions to write, None for those that are gone, and forget that they moved."""
        shadows: dict[str, bytes | None] = dict.fromkeys(self._stopped)
        shadows |= {name: self.shadows[name].packed(self.offset) for name in sorted(self._learnt)}
        versions = {number: self.versions.get(number) for number in sorted(self._moved)}
        self._stopped, self._learnt, self._moved = set(), set(), set()
        return shadows, versions

    def is_due(self) -> bool:
        """Return whether the lifecycle has to be told anew."""
        life, rows = self.lifecycle, self.heads.click.rows
        return not self._is_told or rows - life.told_rows >= min(_REFRESH_ROWS, max(1, life.told_rows // 10))

    def told(self) -> Lifecycle:
        """Return the lifecycle with measures of this moment."""
        life, click = self.lifecycle, self.heads.click
        life.heads, life.segments = heads_facts(self.heads), segment_facts(self.heads)
        life.features, life.told_rows = click.registry.fingerprint(), click.rows
        life.crosses = list(click.registry.crosses)
        life.hashed = [list(parts) for parts in click.registry.hashed]
        for name, shadow in self.shadows.items():
            about = life.shadows[name]
            about.heads, about.evidence = heads_facts(shadow.heads), evidence_of(shadow.comparison)
        self._is_told = True
        return life
