"""Protocols: what is asked, what was known then, and that nothing is known too early."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from headwater.evaluation import protocols
from headwater.evaluation.clicks import (
    Click,
    ClickLogError,
    Clicks,
    by_session,
    periods_of,
    read_periods,
    read_split,
    read_stream,
)  # fmt: skip
from headwater.evaluation.diversity import Unlikeness
from headwater.evaluation.engine import Engine
from headwater.evaluation.report import Reporter, segments
from headwater.evaluation.trial import Judged, Query, Trial
from online_models.arrays import IntArray
from tests.headwater.evaluation.logs import array, clicks_of, random_clicks, write


def everyone(_: int) -> bool:
    return True


class Notes:
    """A model that answers nothing and writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, list[int]]] = []

    def add(self, click: Click) -> None:
        self.said.append(("learn", click.session, [click.item]))

    def recommend(self, query: Query) -> IntArray:
        if not query.novel_only:
            self.said.append(("ask", query.session, query.items.tolist()))
        return array()


def noted() -> tuple[Notes, Trial]:
    model = Notes()
    return model, Trial(model, np.zeros(50, np.int64))


STREAM = clicks_of([(0, 5, 0), (1, 6, 1), (0, 7, 2), (1, 6, 3), (0, 5, 4)])


def test_prequential_asks_before_it_learns_each_click() -> None:
    model, trial = noted()
    protocols.run_prequential(trial, STREAM, everyone, 1)
    assert model.said == [
        ("learn", 0, [5]), ("learn", 1, [6]), ("ask", 0, [5]), ("learn", 0, [7]), ("ask", 1, [6]),
        ("learn", 1, [6]), ("ask", 0, [5, 7]), ("learn", 0, [5]),
    ]  # fmt: skip
    assert trial.all.ints("part").tolist() == [2, 3, 4]
    assert trial.all.ints("repeat").tolist() == [0, 1, 1]


class TakesSessions(Notes):
    """Also notes sessions learnt whole."""

    def add_session(self, clicks: Clicks) -> None:
        self.said.append(("session", int(clicks.sessions[0]), clicks.items.tolist()))


def test_models_that_learn_sessions_whole_are_given_them_when_they_have_ended() -> None:
    model = TakesSessions()
    trial = Trial(model, np.zeros(50, np.int64))
    trial.learn_sessions(STREAM)  # in order of time: clicks of one session among those of another
    protocols.run_split(trial, clicks_of([(7, 1, 9), (7, 2, 10)]), everyone, add_finished=True)
    assert model.said == [
        ("session", 1, [6, 6]), ("session", 0, [5, 7, 5]), ("ask", 7, [1]), ("session", 7, [1, 2]),
    ]  # fmt: skip
    assert trial.known[[1, 2, 5, 6, 7]].tolist() == [1, 1, 2, 2, 1]
    assert trial.updates.told("update")["update_us"] > 0


def test_a_frozen_split_learns_nothing_and_else_a_session_when_it_has_ended() -> None:
    test = by_session(STREAM)
    model, trial = noted()
    protocols.run_split(trial, test, everyone, add_finished=False)
    assert [said for said in model.said if said[0] == "learn"] == []
    assert len(trial.all) == 3
    protocols.run_split(trial, test, everyone, add_finished=True)
    assert model.said[3:] == [
        ("ask", 1, [6]), ("learn", 1, [6]), ("learn", 1, [6]),
        ("ask", 0, [5]), ("ask", 0, [5, 7]), ("learn", 0, [5]), ("learn", 0, [7]), ("learn", 0, [5]),
    ]  # fmt: skip


def test_continual_asks_for_known_items_twice_once_before_its_period_is_learnt() -> None:
    clicks = clicks_of([(0, 1, 0), (0, 2, 1), (1, 1, 2), (1, 9, 3), (1, 2, 4), (2, 2, 5), (2, 2, 6)])
    model = Notes()
    streaming, frozen = (Trial(model, np.zeros(50, np.int64)) for _ in range(2))
    protocols.run_continual((streaming, frozen), clicks, array(0, 0, 1, 1, 1, 2, 2), everyone)
    asked = [said for said in model.said if said[0] == "ask"]
    assert asked == [("ask", 1, [1]), ("ask", 1, [1]), ("ask", 2, [2]), ("ask", 2, [2])]
    assert model.said.index(("ask", 1, [1])) == 2  # right behind the first period
    assert len(frozen.all) == len(streaming.all) == 2
    assert [n for n, said in enumerate(model.said) if said[0] == "learn"] == [0, 1, 3, 4, 6, 8, 10]


def test_a_session_cut_by_periods_begins_anew_in_each() -> None:
    clicks = clicks_of([(0, 1, 0), (0, 2, 1), (0, 1, 2), (0, 2, 3)])
    model = Notes()
    trials = Trial(model, np.zeros(50, np.int64)), Trial(model, np.zeros(50, np.int64))
    protocols.run_continual(trials, clicks, array(0, 0, 1, 1), everyone)
    assert [said[2] for said in model.said if said[0] == "ask"] == [[1], [1]]


def test_a_share_of_sessions_is_predicted_whole_and_the_same_by_seed() -> None:
    sessions = np.repeat(np.arange(1000), 3)
    first, again, other = (protocols.drawn(sessions, 0.2, seed) for seed in (1, 1, 2))
    chosen = {n for n in range(1000) if first(n)}
    assert len(chosen) == 200
    assert chosen == {n for n in range(1000) if again(n)} != {n for n in range(1000) if other(n)}


class Oracle:
    """Knows the future only where the test hands it over: it must not do better than chance without."""

    def __init__(self) -> None:
        self._learnt: set[int] = set()

    def add(self, click: Click) -> None:
        self._learnt.add(click.item)

    def recommend(self, _: Query) -> IntArray:
        return np.array(sorted(self._learnt), np.int64)[:20]


def test_an_item_never_seen_before_is_never_found() -> None:
    clicks = Clicks(np.repeat(np.arange(30), 2), np.arange(60), np.arange(60))
    trial = Trial(Oracle(), np.zeros(60, np.int64))
    protocols.run_prequential(trial, clicks, everyone, 10)
    assert not trial.all.ints("rank").any()
    assert not trial.all.ints("known").any()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_engine_learns_a_rule_from_the_stream_it_is_judged_on(seed: int) -> None:
    clicks = random_clicks(seed, 1500, 200)
    trial = Trial(Engine(), np.zeros(30, np.int64))
    protocols.run_prequential(trial, clicks, everyone, 100_000)
    reporter = Reporter(np.bincount(clicks.items), Unlikeness(clicks, array()), "bucket")
    report = reporter.report(trial)
    assert report["n"] == len(clicks) - len(np.unique(clicks.sessions))
    assert report["mrr20"] > 0.2  # chance: about 0.12
    assert report["segments"]["late"]["mrr20"] > report["segments"]["early"]["mrr20"]
    assert report["novel_only"]["n"] == report["segments"]["new_item"]["n"]
    assert {"update_us_p99", "query_us_p50", "coverage20", "diversity20"} <= report.keys()


def test_a_novel_list_holds_no_item_of_the_session_and_is_judged_by_novel_clicks() -> None:
    trial = Trial(Engine(), np.zeros(30, np.int64))
    clicks = random_clicks(3)
    protocols.run_prequential(trial, clicks, everyone, 100_000)
    held: dict[int, set[int]] = {}
    shown = iter(trial.novel.shown.tolist())
    for session, item, _ in clicks:
        before = held.setdefault(session, set())
        if before and item not in before:
            assert not before & set(next(shown))
        before.add(item)
    assert next(shown, None) is None


def test_segments_part_all_lists_by_each_view() -> None:
    trial = Trial(Notes(), np.zeros(30, np.int64))
    protocols.run_prequential(trial, random_clicks(4), everyone, 100_000)
    found = {name: int(chosen.sum()) for name, chosen in segments(trial.all, "bucket").items()}
    for view in ("position", "session", "bucket"):
        assert sum(n for name, n in found.items() if name.startswith(view)) == len(trial.all)
    assert found["new_item"] + found["repeat"] == found["cold_item"] + found["warm_item"] == len(trial.all)
    assert found["early"] + found["late"] == len(trial.all)


def test_what_was_judged_grows_beyond_its_first_room() -> None:
    trial = Trial(Notes(), np.zeros(3, np.int64))
    clicks = Clicks(np.zeros(9000, np.int64), np.arange(9000) % 3, np.arange(9000))
    protocols.run_prequential(trial, clicks, everyone, 10_000)
    assert len(trial.all) == 8999
    assert (trial.all.shown == -1).all()
    assert trial.all.ints("length").tolist() == list(range(1, 9000))


def test_nothing_judged_says_only_that() -> None:
    reporter = Reporter(np.ones(3, np.int64), Unlikeness(STREAM, array()))
    assert reporter.measured(Judged()) == {"n": 0}


# -- folders


def test_a_folder_is_read_in_order_of_time_and_sessions_in_order_of_their_ends(tmp_path: Path) -> None:
    write(tmp_path, "train", [("a", "x", 3), ("b", "y", 1)])
    write(tmp_path, "test", [("c", "x", 9), ("d", "z", 5), ("c", "y", 7), ("d", "x", 8)])
    log = read_split(tmp_path)
    assert log.train.items.tolist() == [1, 0]
    assert log.rest.sessions.tolist() == [3, 3, 2, 2]
    assert log.rest.items.tolist() == [2, 0, 1, 0]
    assert log.popularity.tolist() == [3, 2, 1]
    assert read_stream(tmp_path).rest.at_ms.tolist() == [1000, 3000, 5000, 7000, 8000, 9000]


def test_a_stream_is_split_at_sessions_that_begin_in_its_last_day(tmp_path: Path) -> None:
    day = 1_700_006_400.0
    rows = [("a", "x", day), ("b", "x", day + 80_000), ("b", "y", day + 90_000), ("c", "y", day + 90_001)]
    write(tmp_path, "events", rows)
    log = read_split(tmp_path)
    assert log.train.sessions.tolist() == [0, 1, 1]
    assert log.rest.sessions.tolist() == [2]


def test_periods_are_those_of_the_file_or_days_or_equal_parts(tmp_path: Path) -> None:
    days = clicks_of([(0, 0, 1_700_000_000_000), (0, 0, 1_700_000_000_001), (0, 0, 1_700_090_000_000)])
    assert periods_of(days).tolist() == [0, 0, 1]
    counter = clicks_of([(0, 0, n) for n in range(34)])
    assert periods_of(counter).tolist() == np.repeat(np.arange(17), 2).tolist()
    write(tmp_path, "period", [("0", "", 0)])
    with pytest.raises(ClickLogError, match=r"period\.tsv\.gz.*wished"):
        read_periods(tmp_path, counter)


def test_categories_come_from_items(tmp_path: Path) -> None:
    write(tmp_path, "stream", [("a", "x", 1), ("a", "y", 2), ("a", "z", 3)])
    with gzip.open(tmp_path / "items.tsv.gz", "wt") as file:
        file.write("y\tshoes\nx\thats\nother\tcoats\n")
    assert read_stream(tmp_path).categories.tolist() == [1, 0, -1]


def test_a_bad_line_is_named_with_what_is_wished(tmp_path: Path) -> None:
    write(tmp_path, "stream", [("a", "x", 1)])
    with gzip.open(tmp_path / "stream.tsv.gz", "at") as file:
        file.write("a\t\ty\tyesterday\n")
    with pytest.raises(ClickLogError, match=r"line 2 .*yesterday.*wished"):
        read_stream(tmp_path)
    with pytest.raises(ClickLogError, match="not there"):
        read_split(tmp_path / "absent")
