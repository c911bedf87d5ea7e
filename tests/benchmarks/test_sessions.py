"""Baselines of the session suite against their definitions written out, and the suite from end to end."""

import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import sessions as suite
from benchmarks._sessions_rivals import NotCurrent, Novel, Popular, SequentialRules, SessionPopular
from benchmarks._sessions_vsknn import VSknn
from headwater.evaluation.clicks import Clicks
from headwater.evaluation.trial import Model, Query
from online_models.arrays import IntArray
from tests.headwater.evaluation.logs import array, random_clicks, write


def asked(model: Model, items: IntArray, session: int = 9_999, *, novel_only: bool = False) -> list[int]:
    rows: list[int] = model.recommend(Query(session, items, 10**9, 20, novel_only))[:20].tolist()
    return rows


def taught(model: Any, clicks: Clicks) -> Any:
    for click in clicks:
        model.add(click)
    return model


def v_sknn(clicks: Clicks, query: list[int], k: int, sample: int) -> dict[int, float]:
    """V-SKNN in plain words; `clicks` come in any order."""
    sessions: dict[int, list[int]] = defaultdict(list)
    for session, item, _ in clicks:
        sessions[session] += [item] if item not in sessions[session] else []
    begun = list(sessions)
    latest = {item: n for n, item in enumerate(query)}
    weights = {item: ((n + 1) / len(query)) ** 2 for item, n in latest.items()}
    possible = set()
    for item in weights:
        possible |= set([s for s in begun if item in sessions[s]][-sample:])
    chosen = sorted(possible, key=begun.index)[-sample:]
    alike = {s: sum(weights[i] for i in set(sessions[s]) & set(weights)) for s in chosen}
    alike = {s: value / math.sqrt(len(query) * len(sessions[s])) for s, value in alike.items()}
    scores: dict[int, float] = defaultdict(float)
    for s in sorted(chosen, key=lambda s: -alike[s])[:k]:
        back = len(query) - 1 - max(latest[i] for i in set(sessions[s]) & set(latest))
        for item in sessions[s]:
            scores[item] += alike[s] * max(0.0, 1 - 0.1 * back)
    idf = {i: math.log(len(begun) / sum(i in held for held in sessions.values())) for i in scores}
    return {item: score * (1 + 10 * idf[item]) for item, score in scores.items()}


@pytest.mark.parametrize("seed", range(8))
def test_v_sknn_in_loops_ranks_as_its_definition(seed: int) -> None:
    clicks, rng = random_clicks(seed), np.random.default_rng(seed)
    model = taught(VSknn(neighbours=500, sample=1000), clicks)
    for length in (1, 2, 5, 15):
        query = rng.integers(0, 30, length)
        truth = v_sknn(clicks, query.tolist(), 500, 1000)
        ranked = asked(model, query)
        assert [truth[item] for item in ranked] == pytest.approx(
            sorted((score for score in truth.values() if score > 0), reverse=True)[:20]
        )


def test_v_sknn_looks_at_the_latest_sessions_and_never_at_the_one_that_asks() -> None:
    model = taught(VSknn(), Clicks(array(0, 0, 1, 1), array(1, 2, 1, 3), array(0, 1, 2, 3)))
    assert set(asked(model, array(1))) == {1, 2, 3}
    assert set(asked(model, array(1), session=1)) == {1, 2}
    assert asked(model, array(77)) == []
    narrow = taught(VSknn(sample=1), Clicks(array(0, 0, 1, 1), array(1, 2, 1, 3), array(0, 1, 2, 3)))
    assert set(asked(narrow, array(1))) == {1, 3}


def test_the_current_item_is_left_out_of_a_full_list() -> None:
    clicks = random_clicks(5)
    whole, without = taught(VSknn(), clicks), taught(NotCurrent(VSknn()), clicks)
    ranked = whole.recommend(Query(9_999, array(3), 10**9, 30, novel_only=False)).tolist()
    assert 3 in ranked
    assert asked(without, array(3)) == [item for item in ranked if item != 3][:20]


def test_sequential_rules_weigh_what_followed_by_distance() -> None:
    model = taught(
        SequentialRules(), Clicks(array(0, 1, 0, 0, 1), array(1, 1, 2, 3, 3), array(0, 1, 2, 3, 4))
    )
    assert asked(model, array(1)) == [3, 2]
    assert asked(Novel(model), array(3, 1), novel_only=True) == [2]
    far = taught(SequentialRules(), Clicks(np.zeros(13, np.int64), np.arange(13), np.arange(13)))
    assert 10 in asked(far, array(0))
    assert 11 not in asked(far, array(0))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_popularity_counts_everything_or_the_last_hour(seed: int) -> None:
    clicks = random_clicks(seed)
    ever, lately = taught(Popular(), clicks), taught(Popular(100_000), clicks)
    recent = clicks.part(np.flatnonzero(clicks.at_ms > clicks.at_ms[-1] - 100_000))
    for model, counted in ((ever, clicks), (lately, recent)):
        counts = Counter(counted.items.tolist())
        assert asked(model, array(0)) == sorted(counts, key=lambda item: (-counts[item], item))[:20]


def test_session_popularity_puts_the_sessions_own_items_first() -> None:
    model = taught(SessionPopular(), Clicks(array(0, 1, 2), array(7, 7, 8), array(0, 1, 2)))
    assert asked(model, array(3, 4, 3, 5)) == [3, 5, 4, 7, 8]
    assert asked(Novel(model), array(7), novel_only=True) == [8]


# -- from end to end


def rows(clicks: Clicks) -> list[tuple[str, str, float]]:
    return [(f"s{session}", f"i{item}", at / 1000) for session, item, at in clicks]


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    given = ["sessions", "--data", str(tmp_path), "--json", str(out), *words]
    monkeypatch.setattr(sys, "argv", given)
    suite.main()
    report: dict[str, Any] = json.loads(out.read_text())
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clicks = random_clicks(1)
    train = np.flatnonzero(clicks.sessions < 60)
    write(tmp_path, "train", rows(clicks.part(train)))
    write(tmp_path, "test", rows(clicks.part(np.flatnonzero(clicks.sessions >= 60))))
    return tmp_path


def test_a_split_reports_both_ways_beside_every_baseline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(folder, monkeypatch)
    assert {"hr20", "mrr20", "n", "ndcg10", "map5", "recall20", "hr20_ci95", "coverage20"} <= report.keys()
    assert set(report["baselines"]) == set(suite.BASELINES)
    assert report["finished_sessions_added"]["n"] == report["n"]
    assert report["novel_only"]["n"] + report["segments"]["repeat"]["n"] == report["n"]
    assert report["hr20"] > report["baselines"]["pop"]["hr20"] - 0.05
    assert {part["n"] for part in report["baselines"].values()} == {report["n"]}
    printed = capsys.readouterr().out
    assert "seed 1" in printed
    assert "range" in printed


def test_equal_runs_report_equal_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = (run(folder, monkeypatch, "--sessions", "0.5", "--seed", "3") for _ in range(2))
    assert all(first[name] == again[name] for name in ("n", "hr20", "mrr20", "map20", "diversity20"))


@pytest.mark.parametrize("protocol", ["continual", "prequential"])
def test_a_stream_needs_no_periods_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    report = run(folder, monkeypatch, "--protocol", protocol, "--baselines", "sr")
    assert report["n"] > 0
    if protocol == "continual":
        periods = [v for k, v in report["segments"].items() if k.startswith("period_")]
        assert report["hr20"] == pytest.approx(np.mean([part["hr20"] for part in periods]))
        assert report["earlier_periods_only"]["n"] == report["n"]


def test_novel_only_judges_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = run(folder, monkeypatch, "--baselines")
    alone = run(folder, monkeypatch, "--baselines", "--novel-only")
    assert alone["n"] == both["novel_only"]["n"]
    assert alone["mrr20"] == both["novel_only"]["mrr20"]


def test_tuned_settings_stand_beside_the_defaults(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tuned.env").write_text('# found\nHEADWATER_KNN={"neighbours": 3}\n')
    monkeypatch.setenv("HEADWATER_MAX_SESSIONS", "40")
    report = run(folder, monkeypatch, "--baselines", "--as-served", "--tuned", str(folder / "tuned.env"))
    assert report["tuned"]["n"] == report["served"]["n"] == report["n"]
    assert report["served"]["mrr20"] != report["mrr20"]


def test_charts_are_written_as_png(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="charts need the extra bench")
    run(folder, monkeypatch, "--protocol", "continual", "--plots", str(folder / "charts"))
    for name in ("models", "segments", "parts"):
        assert (folder / "charts" / f"{name}.png").read_bytes()[1:4] == b"PNG"


def test_a_folder_without_anything_to_predict_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "train", [("a", "x", 1.0)])
    write(tmp_path, "test", [])
    with pytest.raises(SystemExit, match="no clicks to predict"):
        run(tmp_path, monkeypatch)
    write(tmp_path, "test", [("b", "x", 2.0)])
    assert run(tmp_path, monkeypatch, "--baselines")["n"] == 0


@pytest.mark.parametrize("words", [("--sessions", "0"), ("--sessions", "2"), ("--protocol", "daily")])
def test_a_wish_that_makes_no_sense_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit):
        run(folder, monkeypatch, *words)
