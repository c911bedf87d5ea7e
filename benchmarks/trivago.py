"""Re-ranking hotel lists that were shown, learnt prequentially by the classes that rank what is served.

Every click-out in order of time: its list is described by what was known before, ranked, judged, then
learnt. `blend` is the listwise ranker of retrieval (`online_models.blend.Blend`), `click_model` River's
regression as learnt from outcomes (`online_models.click.ClickModel`), both over one `FeatureRegistry`. The
place in the list as displayed is a feature like any other. Data: RecSys Challenge 2019, as
`impressions.jsonl.gz` and `actions_all.jsonl.gz`.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks._trivago_data import Shown, Step, read_steps
from benchmarks._trivago_features import World, list_registry
from headwater.evaluation.clicks import ClickLogError
from headwater.evaluation.measures import difference, half_widths
from online_models.arrays import FloatArray, IntArray
from online_models.blend import Blend, BlendSettings
from online_models.click import ClickModel
from online_models.features import FeatureRegistry

GOAL = 0.604
DRAWN_FROM = "all click-outs of the sample whose list holds the item clicked"


class Ranker(Protocol):
    """What is judged."""

    def scores(self, inputs: FloatArray) -> FloatArray:
        """Score items by inputs (n, f); larger is better, shape (n,)."""

    def learn(self, inputs: FloatArray, clicked: int) -> None:
        """Learn which of n items was clicked."""


class BlendRanker:
    """The retrieval blend over the list's features and crosses."""

    def __init__(self, registry: FeatureRegistry) -> None:
        self._registry = registry
        self.blend = Blend(BlendSettings(), {}, registry.columns)

    def scores(self, inputs: FloatArray) -> FloatArray:
        """Score items."""
        scores: FloatArray = self._registry.expand(inputs) @ self.blend.weights
        return scores

    def learn(self, inputs: FloatArray, clicked: int) -> None:
        """Learn a choice among the list."""
        self.blend.learn(self._registry.expand(inputs), clicked)


class ClickRanker:
    """The click model over the same features: every item of the list is a row, clicked or not."""

    def __init__(self, registry: FeatureRegistry) -> None:
        self.model = ClickModel(registry)
        self._scorer = self.model.scorer()

    def scores(self, inputs: FloatArray) -> FloatArray:
        """Score items."""
        return self._scorer.logits(inputs)

    def learn(self, inputs: FloatArray, clicked: int) -> None:
        """Learn a list as outcomes."""
        clicks = np.zeros(len(inputs))
        clicks[clicked] = 1.0
        self.model.learn_many(inputs, clicks)
        self._scorer = self.model.scorer()


def baselines(shown: Shown, touched: FloatArray, latest: FloatArray) -> dict[str, FloatArray]:
    """Return the scores of plain orders; equal ones stay as displayed. Touched first: the latest on top."""
    return {
        "as_displayed": np.zeros(len(shown.items)),
        "touched_first": latest,
        "touched_as_displayed": touched,
        "cheapest_first": -np.array(shown.prices, np.float64),
    }


def rank_of(scores: FloatArray, clicked: int) -> int:
    """Return the rank, from 1, of the item clicked; among equal scores the one displayed first is first."""
    return 1 + int((scores > scores[clicked]).sum()) + int((scores[:clicked] == scores[clicked]).sum())


class Tally:
    """Reciprocal ranks of every ranker on the same lists, and what is known of the lists."""

    def __init__(self) -> None:
        self.gains: dict[str, list[float]] = {}
        self.sessions: list[str] = []
        self.touched: list[bool] = []
        self.devices: list[str] = []
        self.score_us: list[float] = []
        self.learn_us: list[float] = []

    def note(self, name: str, rank: int) -> None:
        """Note a rank."""
        self.gains.setdefault(name, []).append(1.0 / rank)

    def clusters(self) -> IntArray:
        """Return the session of each list as a number."""
        return np.unique(np.array(self.sessions), return_inverse=True)[1].astype(np.int64)


def run(steps: list[Step]) -> Tally:
    """Predict, judge and learn every list in order."""
    registry, world, tally = list_registry(), World(), Tally()
    rankers: dict[str, Ranker] = {"blend": BlendRanker(registry), "click_model": ClickRanker(registry)}
    for action, shown in steps:
        if shown is not None and shown.clicked in shown.items:
            _judge(tally, (registry, world), rankers, shown)
        world.learn(action, shown)
    return tally


def _judge(
    tally: Tally, known: tuple[FeatureRegistry, World], rankers: dict[str, Ranker], shown: Shown
) -> None:
    registry, world = known
    clicked, began = shown.items.index(shown.clicked), time.perf_counter()
    inputs = registry.matrix(world.describe(shown), len(shown.items))
    touched = inputs[:, registry.place("touched")]
    for name, scores in baselines(shown, touched, inputs[:, registry.place("touch_recency")]).items():
        tally.note(name, rank_of(scores, clicked))
    tally.sessions.append(f"{shown.user}|{shown.session}")
    tally.touched.append(bool(touched.any()))
    tally.devices.append(shown.device)
    for name, ranker in rankers.items():
        began = time.perf_counter()
        scores = ranker.scores(inputs)
        asked = time.perf_counter()
        tally.note(name, rank_of(scores, clicked))
        ranker.learn(inputs, clicked)
        if name == "blend":
            tally.score_us.append((asked - began) * 1e6)
            tally.learn_us.append((time.perf_counter() - asked) * 1e6)


def summary(tally: Tally) -> dict[str, Any]:
    """Return all figures: those of the blend on top, the others beside it."""
    gains = {name: np.array(values) for name, values in tally.gains.items()}
    clusters, touched, n = tally.clusters(), np.array(tally.touched), len(tally.sessions)
    devices = np.array(tally.devices)
    views = {"something_touched": touched, "nothing_touched": ~touched}
    views |= {"early": np.arange(n) < n // 2, "late": np.arange(n) >= n // 2}
    views |= {device: devices == device for device in sorted(set(tally.devices))}
    models = {
        name: {
            **_worth(values, clusters),
            "segments": {v: _worth(values[held], clusters[held]) for v, held in views.items()},
        }
        for name, values in gains.items()
    }
    gap, width = difference(gains["touched_first"][:, None], gains["blend"][:, None], clusters)
    top = models.pop("blend")
    own = {"click_model": models.pop("click_model")}
    return {
        **top, **own, "baselines": models, "goal": GOAL, "intervals": "95 %, sessions as clusters",
        "over_touched_first": {"mean": float(gap[0]), "ci95": float(width[0])},
        "score_us_p50": float(np.median(tally.score_us)), "learn_us_p50": float(np.median(tally.learn_us)),
    }  # fmt: skip


def _worth(values: FloatArray, clusters: IntArray) -> dict[str, float]:
    return {
        "n": len(values),
        "mrr": float(values.mean()),
        "mrr_ci95": float(half_widths(values[:, None], clusters)[0]),
    }


def options() -> argparse.ArgumentParser:
    """Return the command line of this benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trivago", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    return parser


def main() -> None:
    """Run and report."""
    given = options().parse_args()
    try:
        steps = read_steps(given.data)
    except ClickLogError as error:
        sys.exit(str(error))
    report = summary(run(steps))
    report["range_s"] = [steps[0].action.timestamp, steps[-1].action.timestamp]
    print(
        f"{given.data.name}, {DRAWN_FROM}, no draws, seconds {report['range_s'][0]} to {report['range_s'][1]}"
    )
    rows = {"blend": report, "click model": report["click_model"], **report["baselines"]}
    for name, row in rows.items():
        parts = "  ".join(f"{view} {part['mrr']:.3f}" for view, part in row["segments"].items())
        print(f"{name:<15} n {row['n']:>6}  MRR {row['mrr']:.4f} +-{row['mrr_ci95']:.4f}  {parts}")
    over = report["over_touched_first"]
    print(f"blend over touched first: {over['mean']:+.4f} +-{over['ci95']:.4f}; goal above {GOAL}")
    print(
        f"blend: {report['score_us_p50']:.0f} us to score a list, {report['learn_us_p50']:.0f} us to learn it"
    )
    if given.json:
        given.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
