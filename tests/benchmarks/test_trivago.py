"""Re-ranking shown lists: nothing is known too early, features say what they are named, plain orders hold."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import trivago
from benchmarks._trivago_data import CLICKOUT, Action, Shown, read_steps
from benchmarks._trivago_features import World, list_registry
from headwater.evaluation.clicks import ClickLogError

ITEMS = ["a", "b", "c", "d"]


def action(step: int, kind: str, item: str, session: str = "s") -> dict[str, Any]:
    return {
        "user_id": "u", "session_id": session, "timestamp": 100 + step, "step": step, "action_type": kind,
        "reference": item, "city": "Rome",
    }  # fmt: skip


def shown(step: int, clicked: str, session: str = "s") -> dict[str, Any]:
    return {
        "user": "u", "session": session, "ts": 100 + step, "step": step, "device": "mobile", "items": ITEMS,
        "prices": [40, 10, 20, 30], "clicked": clicked,
    }  # fmt: skip


def write(folder: Path, actions: list[dict[str, Any]], lists: list[dict[str, Any]]) -> None:
    for name, rows in (("actions_all", actions), ("impressions", lists)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def as_shown(row: dict[str, Any]) -> Shown:
    return Shown(**row)


def described(world: World, row: dict[str, Any]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in world.describe(as_shown(row)).items()}


def test_steps_come_in_order_of_time_and_a_session_in_its_own(tmp_path: Path) -> None:
    late = action(3, CLICKOUT, "b") | {"timestamp": 90}
    actions = [late, action(1, "interaction item image", "b"), action(2, CLICKOUT, "a", "other")]
    write(tmp_path, actions, [shown(3, "b"), shown(2, "a", "other")])
    steps = read_steps(tmp_path)
    assert [(one.action.session_id, one.action.step) for one in steps] == [("s", 1), ("s", 3), ("other", 2)]
    assert [one.shown.clicked if one.shown else None for one in steps] == [None, "b", "a"]


def test_a_list_is_described_by_what_was_done_before_it() -> None:
    world = World()
    before = described(world, shown(9, "c"))
    assert before["touched"] == [0, 0, 0, 0]
    assert before["nothing_touched"] == [1, 1, 1, 1]
    assert before["price_rank"] == [0.75, 0, 0.25, 0.5]
    assert before["cheapest"] == [0, 1, 0, 0]
    for n, item in enumerate("bbd"):
        world.learn(Action(**action(n, "interaction item image", item)), None)
    after = described(world, shown(9, "c"))
    assert after["touched"] == [0, 1, 0, 1]
    assert after["last_touched"] == [0, 0, 0, 1]
    assert after["touch_recency"] == [0, 0.5, 0, 1]
    assert after["touches"] == after["touched_image"] == [0, 2, 0, 1]
    assert after["next_up"] == [0, 0, 1, 0]
    assert after["popular"] == [0, 2, 0, 1]


def test_a_click_is_known_only_after_its_list_was_ranked(tmp_path: Path) -> None:
    lists = [shown(1, "c"), shown(2, "c")]
    write(tmp_path, [action(1, CLICKOUT, "c"), action(2, CLICKOUT, "c")], lists)
    tally = trivago.run(read_steps(tmp_path))
    assert tally.gains["touched_first"] == [1 / 3, 1.0]
    assert tally.gains["as_displayed"] == [1 / 3, 1 / 3]
    assert tally.gains["cheapest_first"] == [0.5, 0.5]
    assert tally.gains["blend"][0] == 1 / 3
    assert tally.touched == [False, True]


def test_clicks_of_earlier_sessions_are_the_visitors_not_the_sessions() -> None:
    world = World()
    world.learn(Action(**action(1, CLICKOUT, "a", "earlier")), as_shown(shown(1, "a", "earlier")))
    told = described(world, shown(2, "b"))
    assert told["touched"] == [0, 0, 0, 0]
    assert told["user_touched"] == [1, 0, 0, 0]
    assert told["click_rate"][0] > 0 > told["click_rate"][1]
    assert told["unseen"] == [0, 0, 0, 0]


@pytest.mark.parametrize(("scores", "rank"), [([1, 1, 1], 3), ([0, 0, 1], 1), ([2, 0, 1], 2), ([1, 2, 1], 3)])
def test_equal_scores_stay_as_displayed(scores: list[float], rank: int) -> None:
    assert trivago.rank_of(np.array(scores, np.float64), 2) == rank


@pytest.mark.parametrize("ranker", [trivago.BlendRanker, trivago.ClickRanker])
def test_each_ranker_learns_that_the_cheapest_is_clicked(ranker: Any) -> None:
    registry, world, rng = list_registry(), World(), np.random.default_rng(1)
    model, hits = ranker(registry), 0
    for n in range(300):
        row = shown(n, "a") | {"prices": (10 + rng.permutation(4) * 5).tolist()}
        inputs = registry.matrix(world.describe(as_shown(row)), 4)
        cheapest = int(np.argmin(row["prices"]))
        hits += (trivago.rank_of(model.scores(inputs), cheapest) == 1) * (n >= 200)
        model.learn(inputs, cheapest)
    assert hits > 90


def test_the_benchmark_reports_all_rankers_on_the_same_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    actions = [action(n, CLICKOUT, ITEMS[n % 4], f"s{n // 3}") for n in range(30)]
    write(tmp_path, actions, [shown(n, ITEMS[n % 4], f"s{n // 3}") for n in range(30)])
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["trivago", "--data", str(tmp_path), "--json", str(out)])
    trivago.main()
    report = json.loads(out.read_text())
    assert report["n"] == report["click_model"]["n"] == report["baselines"]["as_displayed"]["n"] == 30
    assert {"mrr", "mrr_ci95", "over_touched_first", "segments"} <= report.keys()
    assert "MRR" in capsys.readouterr().out


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, [action(1, CLICKOUT, "a")], [shown(1, "a")])
    with gzip.open(tmp_path / "actions_all.jsonl.gz", "at") as file:
        file.write('{"user_id": 3}\n')
    with pytest.raises(ClickLogError, match=r"actions_all.* line 2"):
        read_steps(tmp_path)
    with pytest.raises(ClickLogError, match="cannot be read"):
        read_steps(tmp_path / "absent")
