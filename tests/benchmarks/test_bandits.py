import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bandits.exploration import Exploration
from bandits.hybrid import HybridConfig
from benchmarks import _bandit_speed as speed
from benchmarks import bandits as command
from benchmarks._bandit_arms import found
from benchmarks._bandit_ours import HybridPlayer, Setting
from benchmarks._bandit_play import Choice, interval, play
from benchmarks._bandit_suites import Entry, suites
from benchmarks._bandit_worlds import ChurningWorld, MovieWorld, Round, World
from headwater.datasets import Movie, MovieLens, Person, Rating

SUITES = suites(0)


class Recorder:
    """Always takes the first candidate and writes down what it is told."""

    def __init__(self) -> None:
        self.chosen: list[Round] = []
        self.learnt: list[tuple[Round, float, int]] = []

    def choose(self, now: Round, seed: int) -> Choice:
        del seed
        self.chosen.append(now)
        return Choice(0)

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        self.learnt.append((then, reward, choice.place))

    def forget(self, item_id: str) -> None:
        pass


def films(seed: int = 0) -> MovieLens:
    rng = np.random.default_rng(seed)
    movies = {f"m{n}": Movie(f"m{n}", "", 1990 + n % 8, ("Drama",) if n % 2 else ("War",)) for n in range(60)}
    people = {f"u{n}": Person(f"u{n}", 20 + n, "FM"[n % 2], "artist") for n in range(9)}
    ratings = [
        Rating(user, f"m{film}", int(rng.integers(1, 6)), 0)
        for user in people
        for film in rng.permutation(60)[:30].tolist()
    ]
    return MovieLens(ratings, movies, people)


def worlds() -> dict[str, list[World]]:
    """Two of each kind from the same seed."""
    data = films()
    return {
        "churning": [ChurningWorld(3, mean_life=50.0) for _ in range(2)],
        "flipping": [ChurningWorld(3, flip_at=20) for _ in range(2)],
        "movies": [MovieWorld(3, data) for _ in range(2)],
    }


@pytest.mark.parametrize("kind", ["churning", "flipping", "movies"])
def test_worlds_repeat_with_their_seed(kind: str) -> None:
    one, other = worlds()[kind]
    for _ in range(60):
        left, right = one.step(), other.step()
        assert (left.item_ids, left.user, left.gone) == (right.item_ids, right.user, right.gone)
        for name in ("context", "items", "expected"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_an_item_keeps_its_features_until_it_is_gone_and_never_comes_back() -> None:
    world, known, dead = ChurningWorld(1, mean_life=40.0), dict[str, bytes](), set[str]()
    for _ in range(300):
        now = world.step()
        dead |= set(now.gone)
        assert not dead & set(now.item_ids)
        for item, row in zip(now.item_ids, now.items, strict=True):
            assert known.setdefault(item, row.tobytes()) == row.tobytes()
    assert len(dead) > 100


def test_a_flip_changes_what_is_wanted_and_nothing_else() -> None:
    plain, flipped = ChurningWorld(4), ChurningWorld(4, flip_at=100)
    for at in range(200):
        one, other = plain.step(), flipped.step()
        np.testing.assert_array_equal(one.items, other.items)
        assert (one.expected == other.expected).all() == (at < 100)


def test_films_are_rated_by_the_user_who_is_there() -> None:
    data = films()
    stars = {(one.user_id, one.item_id): one.rating for one in data.ratings}
    world = MovieWorld(0, data)
    for _ in range(50):
        now = world.step()
        assert len(set(now.item_ids)) == 20
        wished = [float(stars[now.user, film] == 5) for film in now.item_ids]
        assert now.expected.tolist() == wished


def test_rewards_come_as_late_as_asked_and_are_common_to_all() -> None:
    prompt, late = Recorder(), Recorder()
    for player, delay in ((prompt, 0), (late, 30)):
        play(ChurningWorld(5), player, 200, delay, 5)
    assert len(prompt.learnt) == 200
    assert len(late.learnt) == 170
    assert [reward for _, reward, _ in late.learnt] == [reward for _, reward, _ in prompt.learnt][:170]


def test_a_perfect_player_scores_one_and_waits_are_counted() -> None:
    class Oracle(Recorder):
        def choose(self, now: Round, seed: int) -> Choice:
            del seed
            return Choice(int(now.expected.argmax()), 1.0)

    trace = play(ChurningWorld(6, mean_life=4000.0), Oracle(), 2500, 0, 6)
    assert trace.score() == pytest.approx(1.0)
    assert trace.exact.all()
    assert len(trace.waits)


def test_the_engine_repeats_with_its_seed_with_every_option() -> None:
    exploration = Exploration(scheme="optimistic", rate=0.1, temperature=0.05)
    setting = Setting(HybridConfig(9, 9, shared_life_ms=99.0, item_life_ms=50.0), exploration, 0.05, aim=10)
    runs = [play(ChurningWorld(7, mean_life=100.0), HybridPlayer(setting), 300, 3, 7) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].got, runs[1].got)
    assert runs[0].exact.all()


def test_an_interval_is_that_of_students_t() -> None:
    found_ = interval([1.0, 2.0, 3.0])
    assert found_["mean"] == 2.0
    assert found_["high"] - 2.0 == pytest.approx(4.3027 / np.sqrt(3.0), rel=1e-4)
    assert interval([1.0])["high"] == np.inf


@pytest.mark.parametrize("name", ["cold", "delay", "flip", "newcomers"])
def test_each_suite_runs_in_a_tiny_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    line = ["bandits", "--suite", name, "--seeds", "2", "--rounds", "40", "--vw", "1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", line)
    command.main()
    report = json.loads(path.read_text())
    assert report["ours"] == SUITES[name].ours
    assert set(report["policies"]) | set(report["skipped"]) == set(suites(1)[name].entries)
    assert all(len(one["scores"]) == one["score"]["seeds"] for one in report["policies"].values())
    assert {"ours_over_best_vw", "ours_over_best_rival"} <= report.keys()
    before = path.read_text()
    command.main()
    assert json.loads(before)["policies"] == json.loads(path.read_text())["policies"]


def test_the_film_suite_runs_in_a_tiny_form() -> None:
    data, suite = films(), SUITES["movielens"]
    suite = replace(suite, rounds=60, world=lambda seed, _: MovieWorld(seed, data), entries={})
    config = HybridConfig(MovieWorld(0, data).context_dim, MovieWorld(0, data).item_dim)
    entry = Entry(lambda: HybridPlayer(Setting(config, Exploration(), 0.2)))
    one = command.measure(suite, entry, range(2))
    assert one["scores"] == command.measure(suite, entry, range(2))["scores"]
    assert 0.0 < one["score"]["mean"] < 1.0


def test_absent_rivals_are_skipped_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "found", lambda _: None)
    suite = replace(SUITES["cold"], rounds=20)
    kept = {name: one for name, one in suites(1)["cold"].entries.items() if one.package}
    *_, report = command.run(replace(suite, entries=kept), command.Seeds(0, 1), {})
    assert report["policies"] == {}
    assert all("not installed" in why for why in report["skipped"].values())
    assert "skipped" in [cell for column in command.table("", report).columns for cell in column.cells]


def test_seeds_that_a_file_holds_are_not_played_again() -> None:
    suite = replace(SUITES["cold"], rounds=20, ours="us", entries={"us": Entry(Recorder)})
    *_, two = command.run(suite, command.Seeds(0, 2), {})
    played = two["policies"]["us"]["plays"]
    *_, three = command.run(suite, command.Seeds(0, 3), two["policies"])
    assert [one["seed"] for one in three["policies"]["us"]["plays"]] == [0, 1, 2]
    assert three["policies"]["us"]["plays"][:2] == played
    assert played[0]["score"] != played[1]["score"]


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, {"hybrid optimistic", "river LinUCBDisjoint"}),
        ({"river": "0.0.1"}, {"hybrid optimistic"}),
        ({"bandits": "other"}, {"river LinUCBDisjoint"}),
        ({"mabwiser": "0.0.1"}, {"hybrid optimistic", "river LinUCBDisjoint"}),
    ],
)
def test_what_other_versions_played_is_played_again(
    changed: dict[str, str], kept: set[str], tmp_path: Path
) -> None:
    path, asked = tmp_path / "report.json", {"suite": "cold", "seed": 0, "rounds": 40}
    names = ("hybrid optimistic", "river LinUCBDisjoint", "nobody plays this any more")
    held = {"stream": asked, "versions": command.versions() | changed, "policies": {key: {} for key in names}}
    path.write_text(json.dumps(held))
    given = command.options().parse_args(["--suite", "cold", "--json", str(path)])
    assert command.earlier(given, asked).keys() == kept
    assert command.earlier(given, asked | {"seed": 1}) == {}


def test_ours_is_compared_on_the_seeds_both_played() -> None:
    suite = replace(SUITES["cold"], ours="us")
    entries = {"us": Entry(Recorder), "vw one": Entry(Recorder, "v"), "vw two": Entry(Recorder, "v")}
    policies = {"us": {"scores": [4.0, 8.0]}, "vw one": {"scores": [2.0]}, "vw two": {"scores": [2.0, 1.0]}}
    found_ = command.compare(replace(suite, entries=entries), policies)
    assert found_["ours_over"] == {"vw one": 2.0, "vw two": 4.0}
    assert found_["best_vw"] == found_["best_rival"] == "vw one"


@pytest.mark.filterwarnings("ignore")
def test_speed_is_measured_of_all_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CANDIDATES", (20, 100))
    report = speed.run_speed(0, seconds=0.01)
    assert all(one["per_s"] > 0 for one in report["rates"].values())
    assert (report["ours_over_best_vw"] is None) == (found("vowpalwabbit") is None)
