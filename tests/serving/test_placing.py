"""Ranking documents: variety, repetition and freshness, in force in every slate and in its log."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.slates import decision_seed, draw_slate, slate_propensities
from serving.decide import answer_items, decide, to_event
from serving.live import LiveState
from serving.placing import freshness
from serving.relaw import law_of, problem_of, slots_of
from state.decoding import MAX_BYTES, Refusal, decode_event
from state.events import Decision, encode
from state.exploration import Explorations, read_document
from state.ranking import Rankings
from state.subject import SubjectRecord
from tests.serving.world import NOW, World, call, crowded, empty, item

LIVE = World().by_load()
CROWDED = crowded()
RANKINGS = st.fixed_dictionaries(
    {
        "category_cap": st.integers(0, 4),
        "diversity": st.sampled_from([0.0, 0.5, 3.0]),
        "freshness": st.sampled_from([0.0, 2.0]),
    }
)


def under(live: LiveState, ranking: dict[str, Any], exploration: dict[str, Any] | None = None) -> LiveState:
    live.put_control("ranking/home", encode(Rankings(**ranking)))
    live.put_control("exploration/home", encode(Explorations(**exploration or {})))
    return live


def logged(live: LiveState, asked: Any) -> Decision:
    decided = decide(live, asked)
    assert decided is not None
    raw = encode(to_event(live, asked, decided))
    assert len(raw) < MAX_BYTES["decisions"]
    event = decode_event("decisions", raw, received_at=NOW)
    assert isinstance(event, Decision)
    return event


def shown(live: LiveState, asked: Any) -> list[str]:
    decided = decide(live, asked)
    assert decided is not None
    return [one.item_id for one in answer_items(live, decided)]


@settings(max_examples=60)
@given(
    ranking=RANKINGS,
    scheme=st.sampled_from(["greedy", "epsilon", "softmax", "optimistic", "squarecb"]),
    mode=st.sampled_from(["every_slot", "single_slot"]),
    number=st.integers(1, 2**40),
)
def test_slates_replay_and_propensities_recompute_from_the_log_alone(
    ranking: dict[str, Any], scheme: str, mode: str, number: int
) -> None:
    live = under(LIVE, ranking, {"scheme": scheme, "rate": 0.3, "mode": mode, "floor": 0.0005})
    event = logged(live, call(k=7, number=number))
    problem, law = problem_of(event), law_of(event)
    again = draw_slate(problem, law, decision_seed(event.event_id, event.surface))
    np.testing.assert_array_equal(again.indices, slots_of(event))
    found = slate_propensities(problem, slots_of(event), law)
    np.testing.assert_allclose(found, [slot.propensity for slot in event.slots], rtol=0, atol=1e-12)


def test_no_category_has_more_slots_than_its_cap() -> None:
    live = under(LIVE, {"category_cap": 2}, {"scheme": "softmax", "temperature": 5.0})
    for number in range(1, 40):
        rows = live.items.rows(shown(live, call(k=6, number=number)))
        assert max(Counter(live.items.codes[rows, 0].tolist()).values()) == 2


def test_diversity_makes_the_items_of_a_slate_less_alike() -> None:
    def likeness(diversity: float) -> float:
        live = under(CROWDED, {"diversity": diversity}, {"scheme": "greedy"})
        found = [live.items.rows(shown(live, call(k=3, recent_items=[f"i{n}"]))) for n in range(30)]
        vectors = [live.items.vectors[rows] for rows in found]
        return float(np.mean([np.triu(v @ v.T, 1).sum() / 3 for v in vectors]))

    assert likeness(5.0) < 0.75 * likeness(0.0)


def test_a_new_item_is_lifted_by_the_freshness_boost_and_falls_back_with_age() -> None:
    ranking = Rankings(freshness=2.0, freshness_half_life_s=3600.0)
    published = np.array([NOW, NOW - 3_600_000, NOW - 7_200_000, 0, NOW + 5_000])
    np.testing.assert_allclose(freshness(ranking, published, NOW), [2.0, 1.0, 0.5, 0.0, 2.0])

    def place(boost: float) -> int:
        live = under(empty(), {"freshness": boost, "freshness_half_life_s": 3600.0}, {"scheme": "greedy"})
        for number in range(20):
            live.put_item(encode(item(number, published_at=NOW - 1 if number == 7 else NOW - 10**9)))
            live.trends.add(live.items.row(f"i{number}"), NOW - 1_000, 0.01 if number == 7 else 9.0)
        return shown(live, call(k=20)).index("i7")

    assert place(10.0) == 0 < place(0.0)


def test_what_was_interacted_with_comes_back_after_the_window_and_not_before() -> None:
    record = SubjectRecord(session_id="other")
    record.mark_seen("i3", NOW - 5 * 3_600_000, 100)
    record.mark_seen("i4", NOW - 1_000, 100)

    def barred(window_h: float) -> set[str]:
        live = under(LIVE, {"no_repeat_s": 3600 * window_h}, {"scheme": "greedy"})
        return {"i3", "i4"} - set(shown(live, call("u99", record, k=50)))

    assert barred(24 * 90) == {"i3", "i4"}
    assert barred(2) == {"i4"}
    assert barred(0) == set()


def test_the_log_names_the_ranking_it_was_put_together_by_and_stays_small_without() -> None:
    plain = logged(under(CROWDED, {}), call(k=10))
    ruled = logged(under(CROWDED, {"category_cap": 3, "diversity": 1.0, "version": 4}), call(k=10))
    assert plain.placing is None
    assert ruled.versions.ranking == 4
    assert ruled.placing is not None
    assert len(encode(ruled)) - len(encode(plain)) < 3_500


@pytest.mark.parametrize(
    ("setting", "value"), [("category_cap", -1), ("diversity", -0.1), ("no_repeat_s", 1e9), ("novelty", 1)]
)
def test_a_ranking_document_out_of_bounds_is_refused(setting: str, value: float) -> None:
    with pytest.raises(Refusal, match=setting):
        read_document("ranking/home", {setting: value})
