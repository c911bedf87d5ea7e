import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bandits.arrays import FloatArray
from bandits.ope import Evaluation
from benchmarks import _ope_stream as stream
from benchmarks import ope

CHUNK_ROWS = 700


def write_log(folder: Path, name: str, weights: FloatArray) -> dict[str, object]:
    """Write a log with these weights and what a published implementation would say: here, what we say."""
    rng, n = np.random.default_rng(1), len(weights)
    logged = np.full(n, 0.01)
    columns = [rng.random(n) < 0.2, np.zeros(n), logged, logged * weights, np.full(n, 0.2), np.full(n, 0.2)]
    table = np.column_stack(columns)
    with gzip.open(folder / f"{name}.tsv.gz", "wt") as lines:
        np.savetxt(lines, table, delimiter="\t", header="r\tpos\tlogged\ttarget\tq\tdm", fmt="%.17g")
    evaluation = Evaluation()
    evaluation.add(ope.read(folder / f"{name}.tsv.gz"))
    found = {theirs: evaluation.estimates()[ours].value for ours, theirs in ope.THEIR_NAMES.items()}
    return {"estimates": found, "on_policy_value": 0.2}


def test_differences_and_refusals_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    even = rng.uniform(0.5, 1.5, 2000)
    lonely = np.where(np.arange(2000) == 7, 100.0, 0.01)
    golden = {name: write_log(tmp_path, name, w) for name, w in (("good", even), ("bad", lonely))}
    golden["good"]["estimates"]["ipw"] += 1e-3  # type: ignore[index]
    (tmp_path / "estimates.json").write_text(json.dumps(golden))
    path = tmp_path / "report.json"
    line = ["ope", "--data", str(tmp_path), "--rows", str(CHUNK_ROWS), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", line)
    ope.main()
    report = json.loads(path.read_text())
    assert report["max_abs_difference"] == pytest.approx(1e-3)
    assert report["refused"] == ["bad"]
    assert len(report["estimates"]) == 16
    assert [row["estimator"] for row in report["estimates"] if row["log"] == "bad" and row["is_shown"]] == [
        "dros"
    ]
    assert report["rows_per_s"] > 0
    assert 0 < report["peak_mb"] < 50


def test_a_synthetic_log_repeats_with_its_seed_and_is_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK", 4000)
    one, other = list(stream.synthetic(9000, 2)), list(stream.synthetic(9000, 2))
    assert [len(rounds) for rounds in one] == [4000, 4000, 1000]
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.rewards, right.rewards)
        np.testing.assert_array_equal(left.target, right.target)
    evaluation = Evaluation()
    for rounds in one:
        evaluation.add(rounds)
    assert evaluation.report().is_decidable


def test_memory_does_not_follow_the_length_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK", 8192)
    monkeypatch.setattr(stream, "WARM", 2 * 8192)
    found = stream.measure(100_000, 3)
    assert found["rows"] == 100_000
    assert abs(found["peak_growth_mb"]) < 0.1 * found["peak_mb"]
