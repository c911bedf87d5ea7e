"""What a decision was ranked by is what is logged, what closes, and what the click model learns: 100 %."""

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from online_models.hashing import code_of
from online_models.heads import HeadModels
from online_models.ranking import prior_model
from serving.candidates import retrieve
from serving.decide import Decided, decide, to_event
from serving.features import feature_matrix
from serving.visitor import asked_of, visitor_of
from state.events import Decision, Impression, Outcome, ShownItem, encode
from state.packing import from_base64
from stream.lessons import lesson_of
from stream.surface_models import SurfaceModels
from tests.serving.world import CATEGORIES, HALF_LIVES_S, NOW, World, call
from tests.stream.folding import row, shard, token

WORLD = World()
LIVE = WORLD.by_load()
WIDTH = len(LIVE.registry)
POSITION = LIVE.registry.place("position")


def decisions() -> list[tuple[Decided, Decision]]:
    """Decide for every visitor of the world, known and unknown, and read the log back."""
    found = []
    for number, user in enumerate([*(f"u{n}" for n in range(40)), "nobody"]):
        asked = call(user, WORLD.record(user), number=number + 1, recent_items=["i3"][: number % 2])
        asked.request.context = {"device": ("tv", "pc")[number % 3 == 0]}
        decided = decide(LIVE, asked)
        assert decided is not None
        event = msgspec.json.decode(encode(to_event(LIVE, asked, decided)), type=Decision)
        found.append((decided, event))
    return found


DECISIONS = decisions()


def as_ranked(decided: Decided) -> np.ndarray:
    """The numbers the shown slots were ranked by, each at its place."""
    features = decided.scored.features[decided.slate.indices].copy()
    features[:, POSITION] = np.log1p(np.arange(len(features)))
    return features


def test_logged_features_and_logits_are_those_decided_by_bit_for_bit() -> None:
    for decided, event in DECISIONS:
        assert from_base64(event.features).tolist() == as_ranked(decided).ravel().tolist()
        chosen = decided.slate.indices
        assert from_base64(event.logits).tolist() == decided.scored.logits[chosen].tolist()
        assert from_base64(event.arms).tolist() == decided.scored.arms[chosen].ravel().tolist()
        assert event.versions.features == LIVE.fingerprint


def test_features_recomputed_from_the_live_state_are_those_logged_bit_for_bit() -> None:
    for number, (decided, event) in enumerate(DECISIONS):
        record = WORLD.record(event.subject)
        request = call(event.subject, record, recent_items=["i3"][: number % 2], context=event.facets).request
        owed = LIVE.ledger.owed("home", decided.chosen.document, NOW).window(event.seed)
        asked = replace(asked_of(LIVE, request, record, event.subject, NOW), owed=owed)
        found = retrieve(LIVE, asked, request.k)
        features = feature_matrix(LIVE, found, visitor_of(record, request))
        places = {LIVE.items.ids[row]: place for place, row in enumerate(found.rows.tolist())}
        again = features[[places[slot.item_id] for slot in event.slots]]
        again[:, POSITION] = np.log1p(np.arange(len(again)))
        assert again.ravel().tolist() == from_base64(event.features).tolist()


def closed() -> dict[str, Outcome]:
    """Show every decision, and return what its shard sends once all have closed."""
    folded = shard(half_lives_s=HALF_LIVES_S, attribution_window_s=10.0, lateness_s=1.0)
    rows = []
    for _, event in DECISIONS:
        shown = [ShownItem(slot.item_id, place) for place, slot in enumerate(event.slots)]
        impression = Impression(
            event_id=f"shown-{event.event_id}",
            occurred_at=NOW + 10,
            session_id=event.session_id,
            user_id=event.user_id,
            surface=event.surface,
            items=shown,
            decision=token(event.event_id, event.subject),
        )
        rows += [row("decisions", event), row("impressions", impression)]
    folded.fold(rows, NOW)
    folded.fold([], NOW + 3_600_000)
    return {one.event_id: one for one in folded.outcomes()}


def test_what_the_click_model_learns_is_what_was_decided_by_bit_for_bit() -> None:
    outcomes = closed()
    assert len(outcomes) == len(DECISIONS)
    for decided, event in DECISIONS:
        learnt = lesson_of([outcomes[event.event_id]], WIDTH).inputs
        assert learnt.tolist() == as_ranked(decided).tolist()


def test_measures_are_kept_of_visitors_items_categories_and_devices_as_decided() -> None:
    models = SurfaceModels(HeadModels(prior_model(LIVE.registry)))
    models.learn(lesson_of(list(closed().values()), WIDTH), NOW, 1)
    rows = {one.name: one.rows for one in models.told().segments}
    found = {name.partition(":")[0]: 0.0 for name in rows}
    for name, count in rows.items():
        found[name.partition(":")[0]] += count
    slots = sum(len(event.slots) for _, event in DECISIONS)
    assert found == pytest.approx({"visitor": slots, "item": slots, "category": slots, "device": slots})
    assert {"visitor:new", "visitor:returning", "device:tv", "device:pc"} <= rows.keys()
    assert {f"category:{code_of(name)}" for name in CATEGORIES} <= rows.keys()


def test_the_server_scores_logged_features_as_the_model_that_learns_from_them() -> None:
    model = prior_model(LIVE.registry)
    for decided, event in DECISIONS:
        features = from_base64(event.features).reshape(-1, WIDTH)
        features[:, POSITION] = 0.0  # ranked at the first place, learnt at their own
        served = decided.scored.logits[decided.slate.indices]
        np.testing.assert_allclose(model.scorer().logits(features), served, rtol=0, atol=1e-9)
