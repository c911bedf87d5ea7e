"""Why and why-not of past decisions, from the log alone: one verdict an item, and scores that add up."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.heads import HeadModels, Labels
from online_models.ranking import prior_model
from serving.cuts import reason_of
from serving.decide import decide, to_event
from serving.live import LiveState
from serving.relaw import law_of
from serving.verdict import item_why
from serving.why import BASE, CROSSES, REST, explain
from state.decoding import decode_event
from state.events import Decision, encode
from state.exploration import Explorations
from state.packing import from_base64, pack_arrays
from state.ranking import Rankings
from state.subject import SubjectRecord
from tests.serving.world import NOW, World, call, crowded, empty, item, regular

LIVE = World().by_load()
CROWDED = crowded()


def taught(live: LiveState, seed: int = 3, **model: Any) -> LiveState:
    """Let a surface rank by a model that has learnt something."""
    rng = np.random.default_rng(seed)
    heads = HeadModels(prior_model(live.registry, **model))
    rows = rng.random((600, len(live.registry)))
    clicks = (rng.random(600) < rows[:, 3]).astype(np.float64)
    heads.learn(rows, Labels(clicks, {}))
    live.put_model("home", pack_arrays(*heads.snapshot()))
    return live


def logged(live: LiveState, asked: Any) -> Decision:
    decided = decide(live, asked)
    assert decided is not None
    event = decode_event("decisions", encode(to_event(live, asked, decided)), received_at=NOW)
    assert isinstance(event, Decision)
    return event


def why(live: LiveState, event: Decision, item_id: str) -> Any:
    return item_why(event, item_id, live.registry, is_known=live.items.is_known(item_id))


LAWS = st.fixed_dictionaries(
    {
        "scheme": st.sampled_from(["greedy", "epsilon", "softmax", "squarecb"]),
        "rate": st.floats(0, 0.5),
        "floor": st.floats(0, 0.001),
        "mode": st.sampled_from(["every_slot", "single_slot"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(LAWS, st.sampled_from([0.0, 1.5]), st.integers(1, 40), st.sampled_from([f"u{n}" for n in range(40)]))
def test_stored_scores_and_propensities_recompute_from_what_the_log_says_of_them(
    law: dict[str, Any], freshness: float, k: int, user: str
) -> None:
    live = taught(LIVE)
    live.put_control("exploration/home", encode(Explorations(**law)))
    live.put_control("ranking/home", encode(Rankings(freshness=freshness, category_cap=k)))
    told = explain(logged(live, call(user, World().record(user) if k == 1 else None, k=k)), live.registry, 1)
    for slot in told.slots:
        stages = slot.stages
        assert stages.score == pytest.approx(stages.click + stages.policy + stages.lifts, rel=0, abs=1e-9)
        assert sum(slot.contributions.values()) == pytest.approx(stages.click, rel=0, abs=1e-9)
        assert slot.contributions_from == "weights logged with the decision"
        part = slot.propensity
        assert part is not None
        whole = (1 - part.explored) * part.law + (part.explored - part.floor) * part.aim
        assert whole + part.floor / part.eligible == pytest.approx(part.value, rel=0, abs=1e-12)


def test_contributions_are_those_of_the_model_that_ranked_even_after_it_has_learnt_on() -> None:
    live = taught(empty(), seed=3)
    for number in range(30):
        live.put_item(encode(item(number)))
    event = logged(live, call(recent_items=["i3", "i4"]))
    before = explain(event, live.registry, live.model_versions["home"])
    taught(live, seed=4)
    after = explain(event, live.registry, live.model_versions["home"])
    assert [one.contributions for one in after.slots] == [one.contributions for one in before.slots]
    scorer = taught(empty(), seed=3).scorer("home")
    features = from_base64(event.features).reshape(10, -1)
    features[:, live.registry.place("position")] = 0.0
    np.testing.assert_allclose(scorer.logits(features), [one.stages.click for one in after.slots], atol=1e-9)
    families = after.slots[0].contributions
    assert {BASE, CROSSES, "trends", "subject record", "blend"} <= set(families)
    assert REST not in families


def test_optimism_is_told_apart_from_the_mean() -> None:
    live = LIVE
    live.put_control("exploration/home", encode(Explorations(scheme="optimistic", optimism=2.0)))
    stages = [one.stages for one in explain(logged(live, call()), live.registry, 0).slots]
    assert all(one.optimism > 0 for one in stages)
    live.put_control("exploration/home", encode(Explorations()))
    assert all(one.stages.optimism == 0 for one in explain(logged(live, call()), live.registry, 0).slots)


def test_a_slate_no_model_ranked_has_no_contributions() -> None:
    told = explain(logged(LIVE, call(holdout=1.0)), LIVE.registry, 0)
    assert {slot.flag for slot in told.slots} == {"holdout"}
    assert all(slot.contributions == {} and slot.contributions_from == "" for slot in told.slots)
    assert all(slot.stages.score == slot.stages.click for slot in told.slots)


def test_every_item_gets_exactly_one_verdict_and_the_verdicts_count_up() -> None:
    live = CROWDED
    event = logged(live, call("u1", regular(live), k=10))
    found = [why(live, event, item_id) for item_id in [*live.items.ids, "nobody-knows-it"]]
    counts: dict[str, int] = {}
    for one in found:
        counts[one.verdict] = counts.get(one.verdict, 0) + 1
        assert one.said
    assert counts["shown"] == 10
    assert counts["ranked"] == len(event.candidates.sources) - 10
    assert counts["filtered"] == len(event.candidates.cuts)
    assert counts["unknown_item"] == 1
    assert sum(counts.values()) == len(live.items) + 1
    assert {one.reason for one in found if one.verdict == "filtered"} == {"seen"}


def test_the_rank_of_a_candidate_is_its_place_by_score() -> None:
    live = CROWDED
    live.put_control("exploration/home", encode(Explorations(scheme="greedy")))
    event = logged(live, call("u1", regular(live), k=5))
    ranks = [why(live, event, item_id).rank for item_id in event.candidates.item_ids[:LIMIT_SHOWN]]
    scores = from_base64(event.candidates.scores)[:LIMIT_SHOWN]
    order = np.argsort(-from_base64(event.candidates.scores), kind="stable").tolist()
    assert ranks == [order.index(n) + 1 for n in range(len(scores))]
    assert [why(live, event, slot.item_id).rank for slot in event.slots] == [1, 2, 3, 4, 5]
    live.put_control("exploration/home", encode(Explorations()))


LIMIT_SHOWN = 40


def test_what_a_cap_or_likeness_kept_out_is_told_at_the_slot_where_it_would_have_stood() -> None:
    def verdicts(**ranking: Any) -> dict[str, Any]:
        live = empty()
        for number in range(9):  # of one category each third, the titles of the first three alike
            title = "one and the same" if number < 3 else f"quite another thing {number * 97}"
            live.put_item(encode(item(number, title=title, categories=["a" if number < 3 else f"c{number}"])))
            for _ in range(9 - number):
                live.trends.add(number, NOW, 1.0)
        live.put_control("exploration/home", encode(Explorations(scheme="greedy")))
        live.put_control("ranking/home", encode(Rankings(**ranking)))
        event = logged(live, call("u1", SubjectRecord(), k=4))
        return {f"i{n}": why(live, event, f"i{n}") for n in range(9)}

    capped = verdicts(category_cap=1)
    assert [capped[f"i{n}"].verdict for n in range(3)] == ["shown", "cut_by_cap", "cut_by_cap"]
    assert (capped["i1"].position, capped["i2"].position) == (1, 1)
    alike = verdicts(diversity=20.0)
    assert [alike[f"i{n}"].verdict for n in range(3)] == ["shown", "cut_by_diversity", "cut_by_diversity"]
    assert {verdicts()[f"i{n}"].verdict for n in range(4)} == {"shown"}
    assert verdicts()["i8"].verdict == "ranked"


def test_an_item_beyond_the_listed_cuts_is_not_given_a_reason_the_log_does_not_know() -> None:
    live, record = empty(), SubjectRecord()
    for number in range(400):
        live.put_item(encode(item(number, published_at=NOW - number)))
        live.trends.add(number, NOW, 1.0)
        if number < 390:
            record.mark_seen(f"i{number}", NOW, 2000)
    event = logged(live, call("u1", record, k=20))
    verdicts = {why(live, event, f"i{number}").verdict for number in range(390)}
    assert event.candidates.uncut > 0
    assert verdicts == {"filtered", "not_listed"}


def test_features_of_another_version_of_the_engine_are_not_given_names() -> None:
    event = logged(LIVE, call())
    event.versions.features = "of another day"
    told = explain(event, LIVE.registry, 0)
    assert all(one.features == {} and one.contributions == {} for one in told.slots)
    assert law_of(event).scheme == "epsilon"


def test_a_letter_of_a_rule_is_read_as_its_name() -> None:
    assert reason_of("B", ["first", "second"]).rule == "second"
    assert reason_of("h", []).reason == "hidden"
