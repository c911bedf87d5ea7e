"""One thread's decisions and updates a second, the engine's and the libraries', on the same features."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table

from bandits.arrays import FloatArray
from bandits.budgets import explore_weights, owed_weights
from bandits.exploration import Exploration
from bandits.hybrid import HybridConfig, Posterior, ShardLearner, SlotBatch
from bandits.many import draw_many
from bandits.slates import SlateProblem, draw_slate
from benchmarks._bandit_arms import MabwiserPlayer, RiverPlayer, found
from benchmarks._bandit_play import Choice, Player
from benchmarks._bandit_vw import FLAGS, VowpalPlayer
from benchmarks._bandit_worlds import Round
from benchmarks._run import console

DIM = 8
"""Features of users and of items, their constants included: 64 products."""

LEARNT, BATCH = 4096, 256
MANY = 1000
SLATE = 10
CANDIDATES = (50, 100, 200, 500)
SERVED = 180
COMPARED_AT = 100
SECONDS = 1.0
BUNDLE = 8

LAWS = {
    "mean": Exploration(scheme="softmax", rate=0.02, temperature=0.1),
    "squarecb": Exploration(scheme="squarecb", rate=0.0),
    "optimistic": Exploration(scheme="optimistic", rate=0.02, temperature=0.1),
}


@dataclass(frozen=True, slots=True)
class Load:
    """What is decided and learnt."""

    contexts: FloatArray
    items: FloatArray
    ids: list[str]
    chosen: list[int]
    rewards: FloatArray

    @classmethod
    def made(cls, seed: int) -> "Load":
        """Return a load by the seed."""
        rng, most = np.random.default_rng(seed), max(CANDIDATES)
        contexts, items = rng.normal(size=(LEARNT, DIM)), rng.normal(size=(most, DIM))
        contexts[:, 0] = items[:, 0] = 1.0
        ids, chosen = [f"item-{n}" for n in range(most)], rng.integers(0, most, LEARNT).tolist()
        return cls(contexts, items, ids, chosen, (rng.random(LEARNT) < 0.1).astype(np.float64))

    def round(self, n: int, k: int) -> Round:
        """Return the n-th choice among the first k items."""
        return Round("", self.contexts[n % LEARNT], self.items[:k], self.ids[:k], np.empty(0))

    def batch(self, start: int) -> SlotBatch:
        """Return closed slots."""
        part = slice(start, start + BATCH)
        chosen = self.chosen[part]
        ids = [self.ids[n] for n in chosen]
        return SlotBatch(self.contexts[part], self.items[chosen], ids, [""] * len(ids), self.rewards[part])


def rate(act: Callable[[int], object], seconds: float) -> dict[str, float]:
    """Call again and again; return calls per second of this thread's processor time, and latencies.

    The rate is that of the median bundle of `BUNDLE` calls, as reading the clock takes as long as a tenth of
    a call: a neighbour on the core must not count as ours. Latencies are of single calls, on the wall and in
    this thread's processor time.
    """
    spent, _ = _timed(act, BUNDLE, seconds / 2.0)
    single, wall = _timed(act, 1, seconds / 2.0)
    return {
        "per_s": 1e9 * BUNDLE / float(np.median(spent)),
        "mean_per_s": 1e9 * BUNDLE / float(np.mean(spent)),
        "p50_us": float(np.quantile(wall, 0.5)) / 1e3,
        "p99_us": float(np.quantile(wall, 0.99)) / 1e3,
        "p99_cpu_us": float(np.quantile(single, 0.99)) / 1e3,
    }


def _timed(act: Callable[[int], object], bundle: int, seconds: float) -> tuple[list[int], list[int]]:
    """Return processor and wall times (ns) of bundles of calls, at least twenty of them."""
    for n in range(20):
        act(n)
    spent, wall, n = list[int](), list[int](), 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(spent) < 20:
        started, cpu = time.perf_counter_ns(), time.thread_time_ns()
        for _ in range(bundle):
            act(n)
            n += 1
        spent.append(time.thread_time_ns() - cpu)
        wall.append(time.perf_counter_ns() - started)
    return spent, wall


def taught(load: Load) -> tuple[ShardLearner, Posterior]:
    """Return a hybrid that has learnt the whole load."""
    config = HybridConfig(DIM, DIM)
    learner, posterior = ShardLearner(config), Posterior(config)
    for start in range(0, LEARNT, BATCH):
        learner.learn(load.batch(start), {})
    posterior.put_shared(0, learner.shared)
    posterior.put_items(0, learner.items)
    return learner, posterior


def decide(posterior: Posterior, load: Load, law: Exploration, size: int, k: int) -> Callable[[int], object]:
    """Return how one request is answered: score, draw and propensities of every slot.

    Rows are looked up once, as a server does whose candidates come as rows.
    """
    rows, items = posterior.rows(load.ids[:k]), load.items[:k]
    optimistic = law.scheme == "optimistic"

    def act(n: int) -> object:
        context = load.contexts[n % LEARNT]
        mean, variance = posterior.score_rows(context, items, rows, None, with_variance=optimistic)
        return draw_slate(SlateProblem(law.utilities(mean, variance), size), law, n)

    return act


def serve(posterior: Posterior, load: Load, user: FloatArray) -> Callable[[int], object]:
    """Return how a server answers by the default exploration: a visitor with a record, ten new items owed."""
    law, rows = Exploration(scheme="epsilon", rate=0.05), posterior.rows(load.ids[:SERVED])
    items, aim = load.items[:SERVED], np.zeros(len(rows))
    aim[:: len(rows) // 10] = 5.0

    def act(n: int) -> object:
        mean, _ = posterior.score_rows(load.contexts[n % LEARNT], items, rows, user, with_variance=False)
        weights = explore_weights(owed_weights(aim, mean))
        return draw_slate(SlateProblem(mean, SLATE, weights), law, n)

    return act


def own_rates(load: Load, seconds: float) -> dict[str, dict[str, float]]:
    """Return the engine's rates by what is done."""
    learner, posterior = taught(load)
    out = {}
    for k in CANDIDATES:
        for name, law in LAWS.items():
            out[f"choose, {name}, K={k}"] = rate(decide(posterior, load, law, 1, k), seconds)
            if law.scheme == "softmax":
                problem = SlateProblem(np.linspace(-3.0, 0.0, k), 1)
                many = rate(partial(_draw_many, problem, law), seconds)
                out[f"draws of one problem, {MANY} at once, K={k}"] = _scaled(many, MANY)
            if law.is_softmax:
                out[f"slate of {SLATE}, {name}, K={k}"] = rate(
                    decide(posterior, load, law, SLATE, k), seconds
                )
    user = learner.learn(replace(load.batch(0), users=["user"] * BATCH), {}).users["user"]
    out[f"slate of {SLATE} as served by default, K={SERVED}"] = rate(serve(posterior, load, user), seconds)
    starts = range(0, LEARNT, BATCH)
    batches = [load.batch(start) for start in starts]
    learn = rate(lambda n: learner.learn(batches[n % len(batches)], {}), seconds)
    out[f"updates, {BATCH} at once, not published"] = _scaled(learn, BATCH)
    publish = rate(lambda n: _learn_and_publish(learner, posterior, batches[n % len(batches)]), seconds)
    out[f"updates, {BATCH} at once"] = _scaled(publish, BATCH)
    return out


def _learn_and_publish(learner: ShardLearner, posterior: Posterior, batch: SlotBatch) -> None:
    """Learn, and make it what the next choice is scored with, as the rivals' updates do."""
    learnt = learner.learn(batch, {})
    posterior.put_shared(0, learnt.shared)
    posterior.put_items(0, learnt.items)


def _scaled(one: dict[str, float], count: int) -> dict[str, float]:
    """Return the rates of calls that do so many things each."""
    return {name: value * count for name, value in one.items() if "per_s" in name}


def rival_rates(load: Load, seconds: float) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the rates of what is installed, and why others are not there."""
    makers: dict[str, tuple[str, Callable[[], Player]]] = {
        "vw squarecb": ("vowpalwabbit", lambda: VowpalPlayer(FLAGS["vw squarecb gamma 1000"])),
        "vw epsilon": ("vowpalwabbit", lambda: VowpalPlayer(FLAGS["vw epsilon .05"])),
        "mabwiser": ("mabwiser", lambda: MabwiserPlayer(0.1, batch=1)),
        "river": ("river", RiverPlayer),
    }
    out, skipped = {}, {}
    for name, (package, make) in makers.items():
        if found(package) is None:
            skipped[name] = f"{package} is not installed: pip install 'headwater[bench]'"
            continue
        for k in (COMPARED_AT, max(CANDIDATES)):
            player = make()
            out[f"{name} choose, K={k}"] = rate(partial(_choose, player, load, k), seconds)
        out[f"{name} update, K={COMPARED_AT}"] = rate(_updating(make(), load), seconds)
    if found("vowpalwabbit"):
        out |= _core_rates(load, seconds)
    return out, skipped


def _choose(player: Player, load: Load, k: int, n: int) -> object:
    return player.choose(load.round(n, k), n)


def _predict(player: VowpalPlayer, parsed: Any, n: int) -> object:
    del n
    return player.predict(parsed)


def _predict_text(player: VowpalPlayer, texts: list[list[str]], n: int) -> object:
    return player.predict(texts[n % len(texts)])


def _draw_many(problem: SlateProblem, law: Exploration, n: int) -> object:
    return draw_many(problem, law, range(n, n + MANY))


def _updating(player: Player, load: Load) -> Callable[[int], None]:
    player.choose(load.round(0, COMPARED_AT), 0)
    chosen = [n % COMPARED_AT for n in load.chosen]

    def act(n: int) -> None:
        at = n % LEARNT
        choice = Choice(chosen[at], 0.5)
        player.learn(load.round(at, COMPARED_AT), choice, float(load.rewards[at]))

    return act


def _core_rates(load: Load, seconds: float) -> dict[str, dict[str, float]]:
    """VW without its Python: predictions on examples parsed before, updates with one action."""
    player = VowpalPlayer(FLAGS["vw squarecb gamma 1000"])
    out = {}
    for k in (COMPARED_AT, max(CANDIDATES)):
        texts = [player.lines(load.round(n, k)) for n in range(64)]
        out[f"vw squarecb, text, choose, K={k}"] = rate(partial(_predict_text, player, texts), seconds)
    for k in (COMPARED_AT, max(CANDIDATES)):
        parsed = player.parsed(load.round(0, k))
        out[f"vw squarecb core choose, K={k}"] = rate(partial(_predict, player, parsed), seconds)
    lines = [player.one_action(load.round(n, max(CANDIDATES)), load.chosen[n]) for n in range(512)]
    out["vw squarecb update, one action"] = rate(lambda n: player.update(lines[n % 512]), seconds)
    return out


def run_speed(seed: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure all, print a table and return the report."""
    load = Load.made(seed)
    ours = own_rates(load, seconds)
    rivals, skipped = rival_rates(load, seconds)
    over = _ratios(ours, rivals)
    console.print(_table(ours, rivals, skipped))
    vw = [value for name, value in over.items() if name.startswith("vw") and "choose" in name]
    return {
        "rates": ours,
        "rivals": rivals,
        "skipped": skipped,
        "ours_over": over,
        "ours_over_best_vw": min(vw, default=None),
        "ours_over_best_rival": min(over.values(), default=None),
    }


def _ratios(ours: dict[str, dict[str, float]], rivals: dict[str, dict[str, float]]) -> dict[str, float]:
    """Compare decisions at one number of candidates, mean-based as the rivals' are, and updates."""
    chosen, learnt = ours[f"choose, mean, K={COMPARED_AT}"], ours[f"updates, {BATCH} at once"]
    out = {}
    for name, one in rivals.items():
        if name.endswith(f"choose, K={COMPARED_AT}"):
            out[name] = chosen["per_s"] / one["per_s"]
        if "update" in name:
            out[name] = learnt["per_s"] / one["per_s"]
    return out


def _table(
    ours: dict[str, dict[str, float]], rivals: dict[str, dict[str, float]], skipped: dict[str, str]
) -> Table:
    out = Table(
        "what", "a second", "p50 us", "p99 us", "p99 cpu us", title="one thread", title_justify="left"
    )
    for name, one in [*ours.items(), *rivals.items()]:
        latencies = [f"{one[key]:,.1f}" if key in one else "" for key in ("p50_us", "p99_us", "p99_cpu_us")]
        out.add_row(name, f"{one['per_s']:,.0f}", *latencies)
    for name, why in skipped.items():
        out.add_row(name, "skipped", why)
    return out
