"""How much memory a store needs for surfaces: their models, their documents and what is summed up of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import replace

from bandits.ope.shadow import ShadowEvaluation
from headwater.family import Family, hash_family
from headwater.population import BEGIN_MS, Population
from state.audit import AuditEntry
from state.events import encode
from state.evidence import Cell, Sight, encode_cells
from state.exploration import DOCUMENT_TYPES, Explorations, Guardrail, Segment, kind_of
from state.exploring import HOUR, STRETCH_MS, STRETCHES, Stretch, Tried, encode_folded
from state.packing import pack_arrays
from state.retention import (
    AUDIT_CAP,
    EVIDENCE_HOURS,
    HISTORY_CAP,
    MODEL_VERSIONS_KEPT,
    MOST_SHADOWS,
    OUTCOMES_KEPT,
    SHADOWS_CAP,
    TRIED_CAP,
)
from state.settings import Settings
from state.store_memory import StoreLayout
from stream.learnt import PAGE

NAMED_VERSIONS = 2
LIFECYCLE = 16_000
"""Bytes of what is known of one surface's models besides their weights."""
CHANGES = 20
"""Versions kept of one document of a surface; at most `HISTORY_CAP`."""
POLICIES = 4
"""Shadow policies of a surface, each beside the exploration in force and the one before."""
SURFACE = 8
"""Bytes of a surface's name."""


class SurfaceSizes:
    """One method a family.

    Parameters
    ----------
    population, settings, layout
        What is planned for.
    model
        Bytes of a surface's models, all heads.
    """

    def __init__(self, population: Population, settings: Settings, layout: StoreLayout, model: int) -> None:
        self._people, self._settings, self._layout, self._model = population, settings, layout, model

    def makers(self) -> list[Callable[[], Family]]:
        """Return what makes each family."""
        return [
            self._models, self._shadows, self._versions, self._lifecycle, self._learnt_outcomes,
            self._evidence, self._scoreboard, self._spending, self._tried, self._control, self._history,
            self._audit,
        ]  # fmt: skip

    def _of_lanes(self, name: str, lengths: tuple[int, int], each: float) -> Family:
        """Return a family with so many fields in each lane, of one length of names and of values."""
        units = self._settings.lanes
        return self._family(name, lengths, round(each * units), units)

    def _family(self, name: str, lengths: tuple[int, int], count: int, units: int) -> Family:
        return hash_family(self._layout, name, ([lengths[0]], [lengths[1]]), count, units)

    def _where_decided(self, count: float) -> float:
        return count if self._people.decisions_per_day else 0

    def _models(self) -> Family:
        return self._of_lanes("models", (SURFACE, self._model), self._people.surfaces)

    def _shadows(self) -> Family:
        """Return as many shadows as may learn at a time, each as large as the champion."""
        return self._of_lanes(
            "model_shadows", (SURFACE + 9, self._model), self._people.surfaces * MOST_SHADOWS
        )

    def _versions(self) -> Family:
        """Return what is kept of earlier champions: a week of days, and a few with names."""
        each = self._people.surfaces * (MODEL_VERSIONS_KEPT + NAMED_VERSIONS)
        return self._of_lanes("model_versions", (SURFACE + 3, self._model), each)

    def _lifecycle(self) -> Family:
        return self._of_lanes("lifecycle", (SURFACE, LIFECYCLE), self._people.surfaces)

    def _learnt_outcomes(self) -> Family:
        """Return the pages of outcomes a lane remembers."""
        a_lane = min(OUTCOMES_KEPT, 30 * self._people.decisions_per_day / self._settings.lanes)
        length = len(pack_arrays({"ids": np.zeros(PAGE, np.uint64)}, {}))
        return self._of_lanes("learnt_outcomes", (3, length), np.ceil(a_lane / PAGE))

    def _evidence(self) -> Family:
        """Return a week of hours of each surface: new and returning visitors under one rate."""
        slots = self._people.slots + 1
        sums = [1e5 / 3] * slots
        cells = [Cell("returning", 0.05, False, [10**6] * slots, sums, sums)] * 2
        each = self._where_decided(self._people.surfaces * EVIDENCE_HOURS)
        return self._of_lanes("evidence", (SURFACE + 7, len(encode_cells(cells))), each)

    def _scoreboard(self) -> Family:
        """Return the sums of some shadow policies of each surface."""
        sums, rng = ShadowEvaluation(), np.random.default_rng(5)
        for _ in range(200):
            sums.add(1.0 + rng.random(2), rng.random(2))
        sight = dict.fromkeys(Sight.__struct_fields__, BEGIN_MS)
        each = self._where_decided(min(SHADOWS_CAP, 2 * POLICIES * self._people.surfaces))
        return self._of_lanes("scoreboard", (SURFACE + 10, len(pack_arrays(sums.snapshot(), sight))), each)

    def _of_shards(self, name: str, lengths: tuple[int, int], each: float) -> Family:
        units = self._settings.shards
        return self._family(name, lengths, round(self._where_decided(each * units)), units)

    def _spending(self) -> Family:
        busy = Stretch(10**4, 10**3, 10**4, 1e3 / 3, 10**3, 1e2 / 3)
        length = len(encode_folded({BEGIN_MS // STRETCH_MS + n: busy for n in range(STRETCHES)}))
        return self._of_shards("spending", (SURFACE, length), self._people.surfaces)

    def _tried(self) -> Family:
        """Return what is known of as many versions as changes are kept, all as busy as the one in force."""
        recent = {BEGIN_MS // STRETCH_MS + n: 10**3 for n in range(HOUR)}
        tried = Tried(
            10**6, 10**3, 10**6, 1e5 / 3, 1e5 / 3, 10**5, 1e4 / 3, 1e4 / 3, BEGIN_MS, BEGIN_MS, recent
        )
        each = min(TRIED_CAP, CHANGES * self._people.surfaces)
        return self._of_shards("tried", (SURFACE + 3, len(encode_folded(tried))), each)

    def _documents(self) -> list[tuple[int, int]]:
        """Return lengths of name and value of each document that a surface may have."""
        segment = Segment("returning", {"visitor": "returning"}, rate=0.05)
        large: dict[str, Any] = {"exploration": _explorations(segment)}
        made = [(kind, large.get(kind, kind_of(kind)())) for kind in DOCUMENT_TYPES]
        told: dict[str, Any] = {"version": 10, "at": BEGIN_MS, "change": "0" * 32, "follows": 9}
        said: dict[str, Any] = {"changed_by": "0" * 12, "why": "0" * 40}
        return [(len(kind) + 1 + SURFACE, len(encode(replace(one, **told, **said)))) for kind, one in made]

    def _control(self) -> Family:
        return self._of_documents("control", 0, 1)

    def _history(self) -> Family:
        return self._of_documents("history", 3, min(CHANGES, HISTORY_CAP))

    def _audit(self) -> Family:
        """Return an entry for each change that made a version, two of whose settings changed."""
        said: dict[str, Any] = {
            "changed_by": "0" * 12,
            "why": "0" * 40,
            "principal": "key:" + "0" * 8,
            "change": "0" * 32,
        }
        changes = {"0" * 10: ("0.05", "0.1"), "1" * 10: ("null", "3600.0")}
        entry = AuditEntry(
            number=10**4, at=BEGIN_MS, name="exploration/" + "0" * SURFACE, before=9, after=10,
            changes=changes, **said,
        )  # fmt: skip
        count = min(AUDIT_CAP, self._people.surfaces * len(DOCUMENT_TYPES) * CHANGES)
        return self._family("audit", (5, len(encode(entry))), count, 1)

    def _of_documents(self, name: str, more: int, versions: int) -> Family:
        names, values = zip(*self._documents(), strict=True)
        count = self._people.surfaces * len(names) * versions
        return hash_family(self._layout, name, ([one + more for one in names], list(values)), count, 1)


def _explorations(segment: Segment) -> Explorations:
    """Return a document of exploration with something of everything in it."""
    guardrails = [Guardrail("reward", 0.1), Guardrail("fallback", 0.05)]
    before = Explorations(segments=[segment], guardrails=guardrails)
    return replace(before, ttl_s=3600.0, until=BEGIN_MS, before=before)
