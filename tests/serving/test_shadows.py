"""What shadow policies say of a served slate: exactly their propensities over the logged ones."""

from typing import Any

import numpy as np
import pytest

from bandits.exploration import Exploration
from bandits.slates import slate_propensities
from serving.decide import decide, to_event
from serving.live import LiveState
from serving.relaw import problem_of, slots_of
from state.decoding import decode_event
from state.events import Decision, encode
from state.exploration import Explorations, Shadow, Shadows
from state.packing import from_base64
from state.subject import SubjectRecord
from tests.serving.world import NOW, World, call

WORLD = World()


def watched(policies: dict[str, Shadow], **exploration: Any) -> LiveState:
    live = WORLD.by_load()
    live.put_control("exploration/home", encode(Explorations(**exploration)))
    live.put_control("shadows/home", encode(Shadows(policies=policies, version=4)))
    return live


def logged(live: LiveState, number: int = 1, **more: Any) -> Decision:
    asked = call(number=number, **({"record": SubjectRecord()} | more))
    decided = decide(live, asked)
    assert decided is not None
    event = decode_event("decisions", encode(to_event(live, asked, decided)), received_at=NOW)
    assert isinstance(event, Decision)
    return event


def test_a_shadows_weights_are_its_propensities_over_the_logged_ones_down_to_each_slot() -> None:
    live = watched({"wide": Shadow(rate=0.3)}, rate=0.1)
    event = logged(live)
    law = Exploration("epsilon", rate=0.3, temperature=0.05, optimism=0.3)
    target = slate_propensities(problem_of(event), slots_of(event), law)
    wished = np.cumprod(target / [slot.propensity for slot in event.slots])
    np.testing.assert_allclose(from_base64(event.shadows["wide@4"]), wished, rtol=1e-12)


def test_the_policy_in_force_as_its_own_shadow_has_weights_of_one() -> None:
    live = watched({"same": Shadow(scheme="softmax", rate=0.2)}, scheme="softmax", rate=0.2)
    for number in range(20):
        event = logged(live, number)
        np.testing.assert_allclose(from_base64(event.shadows["same@4"]), 1.0, rtol=1e-12)


def test_the_mean_weight_is_one_over_many_decisions() -> None:
    live = watched({"wide": Shadow(rate=0.4), "greedy": Shadow(scheme="greedy")}, rate=0.3)
    weights = [logged(live, number, k=2).shadows for number in range(250)]
    for name in ("wide@4", "greedy@4"):
        whole = np.array([from_base64(one[name])[-1] for one in weights])
        assert abs(whole.mean() - 1.0) < 4 * whole.std() / np.sqrt(len(whole))


@pytest.mark.parametrize("ranks_by", ["click", "trend"])
@pytest.mark.parametrize("scheme", ["epsilon", "softmax", "optimistic"])
def test_other_scores_give_other_weights(ranks_by: Any, scheme: Any) -> None:
    event = logged(watched({"other": Shadow(ranks_by=ranks_by, scheme=scheme), "same": Shadow()}))
    other, same = (from_base64(event.shadows[name]) for name in ("other@4", "same@4"))
    assert (other >= 0).all()
    np.testing.assert_allclose(same, 1.0, rtol=1e-12)
    assert not np.allclose(other, same)


def test_an_optimistic_shadow_of_a_policy_that_is_not_has_variances_to_be_optimistic_by() -> None:
    live = watched({"bold": Shadow(scheme="optimistic", optimism=3.0), "calm": Shadow(scheme="softmax")})
    event = logged(live)
    assert not np.allclose(from_base64(event.shadows["bold@4"]), from_base64(event.shadows["calm@4"]))


def test_slates_that_no_policy_drew_are_not_judged() -> None:
    live = watched({"wide": Shadow(rate=0.3)})
    assert logged(live, record=None).shadows == {}
    assert logged(live, holdout=1.0).shadows == {}
    live.put_control("shadows/home", encode(Shadows(version=5)))
    assert logged(live).shadows == {}
    assert live.document("shadows/home").version == 5
