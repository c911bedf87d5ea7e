"""The suites: which world, how late rewards arrive, from when a score counts, and who plays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from bandits.exploration import Exploration
from bandits.hybrid import HybridConfig
from bandits.policies import LinearConfig, LinTS, LinUCB, Popularity
from benchmarks import _bandit_arms as arms
from benchmarks import _bandit_vw as vw
from benchmarks._bandit_ours import HybridPlayer, PolicyPlayer, Setting, WorkersPlayer
from benchmarks._bandit_play import Player
from benchmarks._bandit_worlds import ChurningWorld, MovieWorld, World

OPTIMISTIC = Exploration(scheme="optimistic", rate=0.0, temperature=0.05, optimism=0.4)
EPSILON = Exploration(scheme="epsilon", rate=0.02)
BOUND = Exploration(scheme="greedy")


@dataclass(frozen=True, slots=True)
class Entry:
    """Who plays.

    Parameters
    ----------
    make
        A fresh player.
    package
        What must be installed; None for nothing.
    most_seeds
        Slow ones play the first few seeds only.
    """

    make: Callable[[], Player]
    package: str | None = None
    most_seeds: int = 1000


@dataclass(frozen=True, slots=True)
class Suite:
    """One setting of the world.

    Parameters
    ----------
    world
        By seed and number of rounds.
    rounds
        Length of one run.
    delay
        Rounds between a choice and its reward.
    scored_from
        Share of the rounds after which the score counts.
    is_absolute
        Whether the score is the mean reward; else it is the reward above chance as a share of the possible.
    ours
        Who is compared with rivals, named before anything is run.
    entries
        Everybody.
    """

    world: Callable[[int, int], World]
    rounds: int
    delay: int
    scored_from: float
    is_absolute: bool
    ours: str
    entries: Mapping[str, Entry]


def suites(vw_settings: int) -> dict[str, Suite]:
    """Return the suites by name, each with so many of VW's settings, by merit."""
    cold = Suite(_churning, 20_000, 0, 0.0, False, "hybrid optimistic", _stream_entries(vw_settings))
    return {
        "cold": cold,
        "delay": replace(cold, delay=1000),
        "flip": replace(
            cold, world=_flipping, scored_from=0.75, ours="hybrid optimistic, life 1,000",
            entries=_flip_entries(vw_settings),
        ),
        "movielens": Suite(_movies, 15_000, 0, 0.0, True, "hybrid optimistic", _movie_entries(vw_settings)),
        "newcomers": replace(
            cold, world=_slowly_churning, delay=200, ours="hybrid owed 5 %", entries=_newcomer_entries()
        ),
        "workers": replace(cold, ours="16 workers, every 200", entries=_worker_entries()),
    }  # fmt: skip


def _churning(seed: int, rounds: int) -> World:
    del rounds
    return ChurningWorld(seed)


def _flipping(seed: int, rounds: int) -> World:
    return ChurningWorld(seed, flip_at=rounds // 2)


def _slowly_churning(seed: int, rounds: int) -> World:
    del rounds
    return ChurningWorld(seed, mean_life=10_000.0)


def _movies(seed: int, rounds: int) -> World:
    del rounds
    return MovieWorld(seed)


def _stream_setting(exploration: Exploration = OPTIMISTIC) -> Setting:
    config = HybridConfig(
        ChurningWorld.context_dim, ChurningWorld.item_dim, 0.03, 0.05, item_base_variance=0.3
    )
    return Setting(config, exploration, rate=1.0 / 21.0)


def _fading(config: HybridConfig, life: float) -> HybridConfig:
    return replace(config, shared_life_ms=life, item_life_ms=life)


def _hybrid(setting: Setting) -> Entry:
    return Entry(partial(HybridPlayer, setting))


def _drawn(exploration: Exploration, prior_loss: float = 20.0) -> Entry:
    return Entry(lambda: PolicyPlayer(Popularity(1.0, prior_loss), exploration))


def _vowpal(count: int, more: str = "") -> dict[str, Entry]:
    note = f" {more}" if more else ""
    return {
        f"{name}{note}": Entry(partial(vw.VowpalPlayer, f"{flags} {more}"), "vowpalwabbit")
        for name, flags in list(vw.FLAGS.items())[:count]
    }


def _per_arm() -> dict[str, Entry]:
    return {
        "mabwiser LinUCB .1": Entry(partial(arms.MabwiserPlayer, 0.1), "mabwiser", 3),
        "river LinUCBDisjoint": Entry(arms.RiverPlayer, "river", 2),
    }


def _stream_entries(count: int) -> dict[str, Entry]:
    linear = LinearConfig(ChurningWorld.context_dim, ChurningWorld.item_dim)
    return {
        "hybrid optimistic": _hybrid(_stream_setting()),
        "hybrid epsilon .02": _hybrid(_stream_setting(EPSILON)),
        "shared LinUCB": Entry(lambda: PolicyPlayer(LinUCB(linear), BOUND), most_seeds=3),
        "shared LinTS": Entry(lambda: PolicyPlayer(LinTS(linear), BOUND), most_seeds=3),
        "popularity epsilon .05": _drawn(replace(EPSILON, rate=0.05)),
        "random": _drawn(replace(EPSILON, rate=1.0)),
        **_vowpal(count),
        **_per_arm(),
    }


def _flip_entries(count: int) -> dict[str, Entry]:
    plain, kept = _stream_entries(count), _stream_setting()
    faded = {
        f"hybrid optimistic, life {life:,}": _hybrid(replace(kept, config=_fading(kept.config, life)))
        for life in (1000, 2000)
    }
    return {**faded, **plain, **_vowpal(min(count, 2), vw.STEADY)}


def _movie_entries(count: int) -> dict[str, Entry]:
    config = HybridConfig(3, 20, 0.05, 0.05, 0.3, item_base_variance=1.0)
    setting = Setting(config, replace(OPTIMISTIC, optimism=0.5), rate=0.2)
    return {
        "hybrid optimistic": _hybrid(setting),
        "hybrid optimistic, users fitted": _hybrid(replace(setting, fits_users=True)),
        "hybrid epsilon .02": _hybrid(Setting(config, EPSILON, rate=0.2)),
        "popularity epsilon .02": _drawn(EPSILON, 4.0),
        "random": _drawn(replace(EPSILON, rate=1.0)),
        **_vowpal(count),
        **_vowpal(min(count, 2), vw.BY_USER),
    }


def _worker_entries() -> dict[str, Entry]:
    setting = _stream_setting()
    return {
        "central, every reward": Entry(partial(WorkersPlayer, setting, 1, 1)),
        **{
            f"{workers} workers, every {every}": Entry(partial(WorkersPlayer, setting, workers, every))
            for workers, every in ((16, 200), (4, 200), (1, 200), (16, 50), (16, 1000))
        },
    }


def _newcomer_entries() -> dict[str, Entry]:
    spent = _stream_setting(replace(OPTIMISTIC, rate=0.05))
    return {
        "hybrid owed 5 %": _hybrid(replace(spent, aim=10)),
        "hybrid uniform 5 %": _hybrid(spent),
    }
