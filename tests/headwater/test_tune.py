"""Tuning finds what a log was made with, recommends nothing by chance, and writes what a server reads."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.evaluation.clicks import read_stream
from headwater.evaluation.measures import NAMES
from headwater.evaluation.search import LADDERS, LOOSE, Course, Outcome, Search, value_of
from headwater.evaluation.tuned import PARTS, changed, environment_lines, of_server, read_tuned
from headwater.stored_sessions import clicks_of, write_log
from headwater.tune import Verdict, Wish, courses, told
from online_models.retrieval import RecommenderSettings
from serving.app import make_live
from state.sessions import SessionRow
from state.settings import Settings, SettingsError, load_settings
from tests.headwater.evaluation.logs import random_clicks, write

BASE = RecommenderSettings()
MRR = NAMES.index("mrr20")


def world(truth: dict[tuple[str, str], float], noise: float = 0.02) -> Search:
    """Return a search in a world where the nearer knobs are to the truth, the better every click fares."""
    rng = np.random.default_rng(1)

    def judge(settings: RecommenderSettings) -> Outcome:
        steps = [list(ladder) for ladder in LADDERS.values()]
        far = sum(
            abs(step.index(value_of(settings, knob)) - step.index(truth.get(knob, value_of(BASE, knob))))
            for knob, step in zip(LADDERS, steps, strict=True)
            if value_of(settings, knob) in step
        )
        values = np.zeros((2000, len(NAMES)))
        values[:, MRR] = 0.5 - 0.01 * far + noise * rng.standard_normal(2000)
        return Outcome(values, np.arange(2000), {})

    return Search(BASE, judge, "mrr20", 200)


def test_every_knob_is_a_value_servers_know_and_its_ladder_holds_the_default() -> None:
    for knob, ladder in LADDERS.items():
        setting, name = knob
        assert name in {one.name for one in fields(getattr(BASE, PARTS[setting]))}
        assert value_of(BASE, knob) in ladder
        assert list(ladder) == sorted(ladder)
    assert all(value in LADDERS[knob] for knob, value in LOOSE.items())


def test_a_search_climbs_to_the_settings_that_are_best() -> None:
    truth = {("knn", "query_decay"): 8.0, ("covisits", "session_decay"): 10_000.0, ("knn", "in_session"): 0.5}
    found = world(truth).run(lambda _: None)
    assert {knob: float(value) for knob, value in found.items()} == truth


def test_a_search_that_meets_only_chance_ends_and_keeps_little() -> None:
    search = world({}, noise=0.2)
    found = search.run(lambda _: None)
    assert len(search.steps) <= 200
    assert len(found) <= len(LADDERS) // 2
    assert all(step.values for step in search.steps)


def test_a_search_ends_after_its_tries() -> None:
    search = world({("knn", "query_decay"): 16.0})
    search.tries = 3
    search.run(lambda _: None)
    assert len(search.steps) == 3


@pytest.mark.parametrize(
    ("gain", "width", "is_told"), [(0.02, 0.01, True), (0.02, 0.03, False), (-0.1, 0.01, False)]
)
def test_a_change_whose_interval_includes_zero_is_not_recommended(
    gain: float, width: float, is_told: bool
) -> None:
    one = {"n": 9, "hr20": 0.5, "hr20_ci95": 0.1, "mrr20": 0.2, "mrr20_ci95": 0.1} | {
        "update_us_p50": 1.0,
        "query_us_p50": 1.0,
    }
    verdict = Verdict({("knn", "sample"): 256.0}, one, one, gain, width)
    assert verdict.recommended is is_told
    assert any(line.startswith("HEADWATER_KNN=") for line in told(verdict, "mrr20", {})) is is_told


def test_what_is_recommended_keeps_what_was_set_before_and_is_what_a_server_reads(tmp_path: Path) -> None:
    lines = environment_lines({"knn": {"neighbours": 600.0}, "covisits": {}}, {"knn": {"idf_power": 1.0}})
    (tmp_path / "tuned.env").write_text("\n".join(["# why", "", *lines]))
    settings = load_settings(dict(line.split("=", 1) for line in lines))
    assert settings.knn == {"idf_power": 1.0, "neighbours": 600.0}
    read = read_tuned(tmp_path / "tuned.env")
    assert (read.knn.neighbours, read.knn.idf_power) == (600, 1.0)
    assert read == of_server(settings)
    assert make_live(settings).recommender.settings == read


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("HEADWATER_KNN", "NAME=VALUE"),
        ('HEADWATER_KNN={"nearness": 1}', "nearness"),
        ("HEADWATER_X=1", "unknown"),
    ],
)
def test_an_environment_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "tuned.env").write_text(text)
    with pytest.raises(SettingsError, match=why):
        read_tuned(tmp_path / "tuned.env")


def test_the_search_never_sees_the_part_that_judges() -> None:
    clicks = random_clicks(1, 3000, 300)
    searched, judged = courses(clicks, Wish(part=0.2, clicks=2500))
    assert len(judged.clicks) == 2500
    assert judged.first == 2000 == len(searched.clicks)
    assert searched.first == 1500
    assert searched.clicks.at_ms[-1] < judged.clicks.at_ms[judged.first]


def test_a_course_predicts_its_last_part_alone() -> None:
    clicks = random_clicks(1, 900, 100)
    found = Course(clicks, 600, 1.0, 1).run(BASE)
    assert len(found.values) == 300 - len(
        set(clicks.sessions[600:].tolist()) - set(clicks.sessions[:600].tolist())
    )


def test_stored_sessions_are_a_log_in_order_of_time(tmp_path: Path) -> None:
    rows = [SessionRow(["b", "a"], [5000, 9000]), SessionRow([], []), SessionRow(["a"], [2000])]
    clicks = clicks_of(rows)
    assert clicks.at_ms.tolist() == [2000, 5000, 9000]
    assert clicks.sessions.tolist() == [0, 1, 1]
    assert clicks.items.tolist() == [0, 1, 0]
    write_log(rows, tmp_path)
    log = read_stream(tmp_path).rest
    assert log.at_ms.tolist() == [2000, 5000, 9000]
    assert log.sessions.tolist() == [0, 1, 1]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["tune", *words])


def test_a_folder_is_tuned_and_all_figures_are_written(tmp_path: Path) -> None:
    clicks = random_clicks(2, 3000, 300)
    write(tmp_path, "stream", [(f"s{s}", f"i{i}", at / 1000) for s, i, at in clicks])
    out, env = tmp_path / "out.json", tmp_path / "tuned.env"
    result = run("--data", str(tmp_path), "--tries", "2", "--json", str(out), "--save", str(env))
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["settings_in_force"]["n"] >= 300
    assert {"gain", "gain_ci95", "tuned", "changes", "range", "seed"} <= report.keys()
    assert env.exists() is report["recommended"]
    assert changed(BASE, report["changes"])


def test_a_log_too_short_to_tell_anything_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "stream", [("a", "x", 1.0), ("a", "y", 2.0)])
    result = run("--data", str(tmp_path))
    assert result.exit_code == 1
    assert "wished: at least 300" in result.output


def test_a_store_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_REDIS", "redis://127.0.0.1:1/0")
    result = run()
    assert result.exit_code == 1
    assert "Error" in result.output
    assert isinstance(Settings(), Settings)
