"""The ablation: the served path in one process repeats, cuts what it says, and compares like with like."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from benchmarks._ablation_cut import FAMILIES, CutLive, Without, inputs_of
from benchmarks._inprocess import Engine
from headwater.datasets import Movie, MovieLens, Rating
from online_models.sources import CONTENT, KNN, SOURCE_NAMES, Query
from serving.app import make_live

GENRES = ("Drama", "Comedy", "Crime")


def films(count: int = 30) -> MovieLens:
    """Return films of three genres; every user rates films of one, in the same order."""
    items = {str(n): Movie(str(n), f"film {n}", 1990 + n % 5, (GENRES[n % 3],)) for n in range(count)}
    ratings = [
        Rating(f"u{user}", str(user % 3 + 3 * step), 5, 1000 + 100 * step + user)
        for step in range(8)
        for user in range(12)
    ]
    return MovieLens(ratings=ratings, items=items, users={})


def test_a_run_repeats_by_its_seed_and_learns_what_follows() -> None:
    data = films()
    first, again = (ablation.play(data, 96, 1, None) for _ in range(2))
    assert first == again
    assert {len(hits) for hits in first.values()} == {96}
    assert {"full", "neighbours", "seen together", "session embedding", "new"} <= first.keys()
    assert sum(first["full"][48:]) > sum(first["popularity, half-life inf"][48:]) / 2


def test_every_event_of_a_visit_is_folded_and_outcomes_teach_the_click_model() -> None:
    data, settings = films(60), ablation.demo_settings(1)
    live = make_live(settings)
    engine = Engine(settings, live, 1)
    engine.stock([ablation.catalogue_item(movie) for movie in data.items.values()])
    for n in range(40):
        call = engine.call("u1", "s1", ablation.BEGAN_MS + 1000 * n)
        decided, slate = engine.answer(call)
        assert slate
        engine.tell(call, decided, str(n), 5.0)
    record = engine.call("u1", "s1", ablation.BEGAN_MS + 50_000).record
    assert record is not None
    assert record.events >= 40
    assert live.model_versions["home"] > 0


def test_a_source_cut_brings_nothing_and_its_rank_says_nothing() -> None:
    live = CutLive(make_live(ablation.demo_settings(1)), Without(sources=frozenset({KNN, CONTENT})))
    for session in range(20):
        for step, row in enumerate((3, 7, 8)):
            live.recommender.add(session, row, step)
    found = live.recommender.retrieve(Query(np.array([3]), 100), 5)
    assert not (found.sources & ((1 << KNN) | (1 << CONTENT))).any()
    columns = inputs_of(Without(sources=frozenset({KNN, CONTENT})), live.recommender.names)
    assert {live.recommender.names[column] for column in columns} == {"knn_rank", "content_rank"}
    assert not found.inputs[:, columns].any()


def test_every_input_of_the_blend_belongs_to_a_family() -> None:
    names = make_live(ablation.demo_settings(1)).recommender.names
    claimed = {
        column for family in FAMILIES for column in inputs_of(Without(families=frozenset({family})), names)
    }
    assert [name for column, name in enumerate(names) if column not in claimed] == []
    assert {name for name in ablation.cuts() if name.startswith("inputs: ")} <= {
        f"inputs: {f}" for f in FAMILIES
    }


def test_a_file_keeps_what_was_played_and_refuses_other_lengths(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    results = ablation.Results(path, 4)
    results.put("full", 1, {"full": [True, False, True, True], "new": [False, False, True, False]})
    results.put("source: new", 1, {"full": [True, False, False, True]})
    results.write({})
    held = ablation.Results(path, 4)
    assert held.has("full", 1)
    assert held.has("source: new", 1)
    assert not held.has("source: new", 2)
    rows = ablation.summary(held, [1, 2], np.array([0, 0, 1, 2]))
    assert rows["full"]["hr10"] == 0.75
    assert rows["new"]["full_above"] == pytest.approx(0.5)
    assert rows["without source: new"]["full_above"] == pytest.approx(0.25)
    assert json.loads(path.read_text())["events"] == 4
    with pytest.raises(ValueError, match="wished: 9"):
        ablation.Results(path, 9)


def test_every_source_a_catalogue_has_is_cut_once() -> None:
    assert {f"source: {name}" for name in SOURCE_NAMES} - ablation.cuts().keys() == {
        "source: session", "source: trending on surface", "source: trending in segment"
    }  # fmt: skip
