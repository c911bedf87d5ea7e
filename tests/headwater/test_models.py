"""What ``headwater models`` prints, and that the page of features says what the registry does."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from headwater.cli import main
from headwater.features_page import page
from headwater.model_card import card_of
from headwater.models_control import pooled_evidence
from headwater.models_text import columns, described, listed, verdict
from online_models.ranking import ranking_registry
from state.models import Evidence, HeadFacts, Lifecycle, SegmentFacts, Shadow, Step, Version

AT = 1_750_000_000_000


def facts(rows: int = 1000) -> HeadFacts:
    return HeadFacts(
        "linear", rows, 20, 0.31, 0.35, 0.3, 0.71, 0.1, 1.02, 0.004, 0.02, (0.9, -0.1), 1, 2, 50_000.0
    )


def life(mean: float = -0.01, outcomes: int = 500) -> Lifecycle:
    evidence = Evidence(outcomes, mean * outcomes, 2.0, mean, mean - 0.004, mean + 0.004)
    return Lifecycle(
        champion=2, number=3, began=AT, outcomes=outcomes, updated=AT + 1000,
        versions=[Version(2, "before-sale", AT, 7, 900, 0.32, 0xAB, "named")],
        shadows={"fm": Shadow({"kind": "fm"}, AT, "me", "try", {"click": facts()}, evidence)},
        steps=[Step(AT, "promotion", False, "fm is not shown to be better", "me", "hope", "c1")],
        heads={"click": facts(), "purchase": facts(40)},
        segments=[
            SegmentFacts("visitor:new", 400.0, 40.0, 1.1, 0.3),
            SegmentFacts("category:drama", 9.0, 0.0, 0.0, 0.1),
        ],
        features=ranking_registry().fingerprint(), crosses=[("knn", "trend_mid")], hashed=[["category"]],
    )  # fmt: skip


def test_everything_known_of_a_surface_is_shown() -> None:
    text = "\n".join(described("home", {0: life()}))
    for said in (
        "home, lane 0: champion of version 2", "purchase", "visitor:new", "category:drama", "better",
        "[-0.01400, -0.00600]", "before-sale", "000000ab", "promotion refused: fm is not shown", "(me: hope)",
    ):  # fmt: skip
        assert said in text, said


def test_the_list_has_one_line_a_surface_and_lane() -> None:
    lines = listed({"cart": {0: Lifecycle()}, "home": {0: life(), 1: life()}})
    assert [line.split()[:2] for line in lines[1:]] == [["cart", "0"], ["home", "0"], ["home", "1"]]
    assert listed({}) == ["no model has learnt anything yet"]


def test_a_card_tells_what_where_from_how_good_and_what_of_whom() -> None:
    text = "\n".join(card_of("home", {0: life()}))
    features = [line for line in text.partition("### Features")[2].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in features} == {8}
    assert "# Click models of surface home" in text
    for feature in ranking_registry().features:
        assert f"| {feature.name} | {feature.kind} | {feature.source} |" in text
    for said in (
        "500 outcomes",
        "knn*trend_mid",
        "2025-06-15 15:06:40 to 2025-06-15 15:06:41",
        "1 alarms of calib",
    ):
        assert said in text, said


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(None, None, "too few outcomes"), (-2.0, -1.0, "better"), (-1.0, 1.0, "undecided"), (1.0, 2.0, "worse")],
)
def test_an_interval_is_put_into_a_word(low: float | None, high: float | None, word: str) -> None:
    assert verdict(Evidence(1, 0.0, 0.0, 0.0, low, high)) == word


def test_evidence_of_lanes_is_pooled() -> None:
    one = life(-0.01, 600)
    together = pooled_evidence({0: one, 1: one}, "fm")
    assert together.outcomes == 1200
    assert together.mean == pytest.approx(-0.01)
    assert pooled_evidence({0: one}, "nobody") == Evidence()


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert columns([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc   d"]


def test_a_forced_promotion_without_a_reason_is_refused_before_anything_is_read() -> None:
    answer = CliRunner().invoke(main, ["models", "promote", "fm", "--force"])
    assert (answer.exit_code, "needs a reason" in answer.output) == (1, True)


def test_the_page_of_features_is_up_to_date() -> None:
    assert (Path(__file__).parents[2] / "docs/features.md").read_text(encoding="utf-8") == page()


def test_every_feature_says_what_it_is_made_of() -> None:
    for feature in ranking_registry().features:
        assert feature.source
        assert feature.window
        assert feature.about
