"""Previews and scoreboards as pure functions of what lanes have folded."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import poisson

from bandits.ope.shadow import ShadowEvaluation
from serving.candidates import SOURCES
from serving.metrics import ServerMetrics
from serving.preview import Preview, new_items, preview
from serving.scoreboard import Promotion, ScoreboardAnswer, Sights, promotion_wish, scores
from serving.scoreboard_gauges import read_boards, show_scores
from state.decoding import Refusal
from state.events import NEW_SOURCE
from state.evidence import Cell, Sight
from state.exploration import Explorations, Quota, Segment, Shadow, Shadows

AT = 1_750_000_000_000


def cell(n: int, rate: float = 0.05, segment: str = "", spoilt: float = 0.02, seed: int = 1) -> Cell:
    """Slates of four slots worth .3 each, less for each slot that explored."""
    rng = np.random.default_rng(seed)
    m = rng.binomial(4, rate, n)
    rewards = (rng.random(n) < 0.3 - spoilt * m).astype(np.float64)
    counts, sums = np.bincount(m, minlength=5), np.bincount(m, rewards, minlength=5)
    return Cell(segment, rate, False, counts.tolist(), sums.tolist(), sums.tolist())


def told(cells: list[Cell], rate: float, document: Explorations | None = None) -> Preview:
    now = document or Explorations(rate=0.05, version=3)
    return preview("home", cells, (now, replace(now, rate=rate)), (24.0, AT))


def test_a_preview_tells_reward_and_change_with_intervals_and_in_words() -> None:
    one = told([cell(100_000, seed=4)], 0.1)
    assert one.is_decidable
    assert one.overall.change is not None
    assert one.overall.change.low <= 4 * 0.05 * -0.02 <= one.overall.change.high
    assert one.overall.reward is not None
    assert one.overall.reward.low <= 0.3 - 4 * 0.1 * 0.02 <= one.overall.reward.high
    assert (one.version, one.segments, one.overall.rate_now, one.overall.rate) == (3, [], 0.05, 0.1)
    assert one.verdict.startswith("from 0.05 to 0.1, home earns less: -0.00")
    assert "100,000 decisions of the last 24 hours" in one.verdict


def test_what_was_not_explored_is_refused_in_words() -> None:
    for cells in ([], [replace(cell(500, 0.0), rate=0.0)]):
        one = told(cells, 0.1)
        assert not one.is_decidable
        assert one.overall.reward is one.overall.change is None
        assert "cannot be told" in one.verdict
        assert "nothing was explored" in one.verdict


def test_the_rate_in_force_needs_no_exploration_to_be_told() -> None:
    one = told([replace(cell(500, 0.0), rate=0.0)], 0.05)
    assert one.is_decidable
    assert one.overall.change is not None
    assert one.overall.change.value == 0.0
    assert "explores at 0.05 already" in one.verdict


def test_segments_follow_their_own_rates_and_add_up_by_their_shares() -> None:
    segments = [
        Segment(name="new", when={"visitor": "new"}, multiplier=2.0),
        Segment(name="quiet", when={"mood": "quiet"}, scheme="greedy"),
    ]
    cells = [cell(60_000), cell(30_000, 0.1, "new", 0.05, 2), replace(cell(10_000, 0.0, "quiet"), rate=0.0)]
    one = told(cells, 0.1, Explorations(rate=0.05, segments=segments))
    assert one.is_decidable
    rates = {part.segment: (part.rate_now, part.rate, round(part.share, 2)) for part in one.segments}
    assert rates == {"": (0.05, 0.1, 0.6), "new": (0.1, 0.2, 0.3), "quiet": (0.0, 0.0, 0.1)}
    changes = [part.change.value for part in one.segments if part.change is not None]
    assert len(changes) == 3
    assert one.overall.change is not None
    assert one.overall.change.value == pytest.approx(float(np.dot(changes, [0.6, 0.3, 0.1])), abs=1e-9)
    assert changes[2] == 0.0


def test_a_segment_nobody_explored_makes_all_undecidable_unless_it_is_tiny() -> None:
    segments = [Segment(name="new", when={"visitor": "new"})]
    document = Explorations(rate=0.05, segments=segments)
    unexplored = replace(cell(5_000, 0.0, "new"), rate=0.0)
    assert not told([cell(50_000), unexplored], 0.1, document).is_decidable
    tiny = told([cell(500_000), replace(cell(400, 0.0, "new"), rate=0.0)], 0.1, document)
    assert tiny.is_decidable
    assert tiny.segments[1].reasons
    assert tiny.overall.reward == tiny.segments[0].reward
    assert tiny.overall.change == tiny.segments[0].change
    assert "earns less: -0.0" in tiny.verdict


def test_a_log_without_a_reward_is_not_certain_that_nothing_is_earned() -> None:
    silent = replace(cell(20_000), sums=[0.0] * 5, squares=[0.0] * 5)
    for rate in (0.05, 0.1):
        one = told([silent], rate).overall
        assert one.reward is not None
        assert one.reward.high >= 1.0 / 20_000
    assert one.change is not None
    assert one.change.high > 0.0 > one.change.low


def sums(n: int, lift: float, seed: int = 1) -> ShadowEvaluation:
    """A shadow on slates of two slots, its weights 2 or 0 by half: what it likes is worth .2 + lift."""
    rng, made = np.random.default_rng(seed), ShadowEvaluation()
    for liked in rng.random(n) < 0.5:
        reward = float(rng.random() < 0.2 + (lift if liked else 0.0))
        made.add(np.array([1.0, 2.0 * liked]), np.array([0.0, reward]))
    return made


DECLARED = Shadows(policies={"wide": Shadow(rate=0.1), "popular": Shadow(ranks_by="trend")}, version=2)


def board(*lanes: ShadowEvaluation, version: tuple[int, int] = (2, 5)) -> ScoreboardAnswer:
    sight = Sight(*version, AT, AT + 9)
    sights: Sights = {"wide": [(sight, one.snapshot()) for one in lanes]}
    return ScoreboardAnswer("home", AT, 5, scores(DECLARED, sights, 5))


def test_a_shadow_that_earns_more_stands_first_and_may_be_promoted() -> None:
    told_board = board(sums(6000, 0.4, 1), sums(6000, 0.4, 2))
    wide, popular = told_board.shadows
    assert (wide.shadow, wide.decisions, wide.is_better, wide.reasons) == ("wide", 12_000, True, [])
    assert wide.lift is not None
    assert wide.lift.low <= 0.2 <= wide.lift.high
    assert popular.reasons == ["no decision of these versions has closed yet"]
    wish = promotion_wish(told_board, Promotion("wide", "ann"))
    assert (wish.given["rate"], wish.changed_by, wish.forced) == (0.1, "ann", False)


def test_promotion_is_refused_while_intervals_overlap_unless_forced() -> None:
    told_board = board(sums(3000, 0.02))
    with pytest.raises(Refusal, match="overlap after 3,000 decisions, or a forced promotion"):
        promotion_wish(told_board, Promotion("wide"))
    assert promotion_wish(told_board, Promotion("wide", why="we know", forced=True)).forced


@pytest.mark.parametrize(
    ("shadow", "code"), [("nobody", "one of wide, popular"), ("popular", "ranks by policy")]
)
def test_what_cannot_be_in_force_is_not_promoted_even_by_force(shadow: str, code: str) -> None:
    with pytest.raises(Refusal, match=code):
        promotion_wish(board(sums(100, 0.0)), Promotion(shadow, why="so", forced=True))


@pytest.mark.parametrize("version", [(1, 5), (2, 4), (3, 5)])
def test_sums_of_other_versions_of_shadow_or_exploration_do_not_count(version: tuple[int, int]) -> None:
    wide = board(sums(500, 0.4), version=version).shadows[0]
    assert (wide.decisions, wide.reward) == (0, None)


def test_a_log_that_cannot_tell_shows_no_value() -> None:
    made: Any = ShadowEvaluation()
    for n in range(1000):
        made.add(np.array([400.0 if n == 7 else 0.01]), np.array([1.0]))
    wide = board(made).shadows[0]
    assert wide.reward is wide.live is None
    assert any("effective sample size" in reason for reason in wide.reasons)


def test_new_items_are_forecast_from_what_exploring_and_the_scheme_showed() -> None:
    now = Explorations(rate=0.05, quota=Quota(impressions=10, hours=48.0))
    cells = [replace(cell(1000), fresh=200, fresh_else=95), replace(cell(1000, 0.1), fresh=400)]
    one = new_items(cells, (now, replace(now, rate=0.1)), 100, 24.0)
    assert one is not None
    assert one.impressions_now == pytest.approx(2 * (200 + 95 + 200) / 100)
    assert one.impressions == pytest.approx(2 * (400 + 90 + 400) / 100)
    by_scheme = poisson(2 * 90 / 100)
    needed = sum((10 - n) * float(by_scheme.pmf(n)) for n in range(10))
    alone = float(by_scheme.sf(9))
    assert one.reaching == pytest.approx(100 * (alone + (1 - alone) * min(1.0, 2 * 800 / 100 / needed)))
    assert one.reaching_now < one.reaching <= 100


def test_where_nothing_is_owed_or_new_there_is_nothing_to_forecast() -> None:
    now = Explorations(rate=0.05)
    assert new_items([cell(100)], (now, now), 0, 24.0) is None
    owes_nothing = Explorations(quota=None)
    assert new_items([cell(100)], (owes_nothing, owes_nothing), 5, 24.0) is None


def test_the_letter_of_new_items_is_that_of_the_source_of_new_items() -> None:
    assert SOURCES[NEW_SOURCE] == "new"


def test_scores_are_exported_where_the_log_can_tell() -> None:
    metrics, told_board = ServerMetrics(), board(sums(6000, 0.4))
    show_scores([told_board], metrics)
    wide = told_board.shadows[0]
    assert wide.reward is not None
    labels = {"surface": "home", "shadow": "wide"}
    read = metrics.registry.get_sample_value
    assert read("headwater_shadow_reward", {**labels, "bound": "low"}) == wide.reward.low
    assert read("headwater_shadow_decisions", labels) == 6000
    assert read("headwater_shadow_decisions", {**labels, "shadow": "popular"}) == 0
    assert read("headwater_shadow_reward", {**labels, "shadow": "popular", "bound": "low"}) is None


def test_a_shadow_that_is_no_longer_watched_has_no_gauge() -> None:
    metrics, told_board = ServerMetrics(), board(sums(6000, 0.4))
    labels = {"surface": "home", "shadow": "wide"}
    read = metrics.registry.get_sample_value
    show_scores([told_board], metrics)
    others = [one for one in told_board.shadows if one.shadow != "wide"]
    show_scores([replace(told_board, shadows=others)], metrics)
    assert read("headwater_shadow_decisions", labels) is None
    assert read("headwater_shadow_reward", {**labels, "bound": "value"}) is None
    assert read("headwater_shadow_decisions", {**labels, "shadow": "popular"}) == 0


class OneBreaks:
    """Boards of two surfaces, of which one cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def read(self, surface: str) -> ScoreboardAnswer:
        if surface == "cart":
            raise self.error
        return replace(board(sums(600, 0.4)), surface=surface)


@pytest.mark.parametrize("error", [TimeoutError(), ValueError("of a newer worker")])
async def test_a_board_that_cannot_be_read_stays_and_keeps_no_other_from_being_read(error: Exception) -> None:
    reader: Any = OneBreaks(error)
    held = {"cart": replace(board(sums(60, 0.4)), surface="cart")}
    boards = await read_boards(reader, ["cart", "home"], held)
    assert boards["cart"] is held["cart"]
    assert boards["home"].surface == "home"
    assert set(await read_boards(reader, ["home"], boards)) == {"home"}
