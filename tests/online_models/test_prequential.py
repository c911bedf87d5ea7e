import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import metrics

from online_models.prequential import Prequential, log_losses

rows = st.lists(
    st.tuples(st.integers(0, 10).map(lambda n: n / 10), st.integers(0, 1)), min_size=1, max_size=40
)


def arrays(pairs: Any) -> Any:
    return np.array([p for p, _ in pairs]), np.array([float(y) for _, y in pairs])


@given(rows)
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs: Any) -> None:
    p, y = arrays(pairs)
    wins = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    wish = np.mean(wins) if wins else float("nan")
    judge = Prequential()
    judge.update(p, y)
    assert judge.report().window_auc == pytest.approx(wish, nan_ok=True)


@given(rows)
def test_log_loss_is_that_of_river(pairs: Any) -> None:
    p, y = arrays(pairs)
    metric: Any = metrics.LogLoss  # untyped
    metric = metric()
    p = np.clip(p, 0.01, 0.99)
    for probability, click in zip(p.tolist(), y.tolist(), strict=True):
        metric.update(bool(click), probability)
    assert log_losses(p, y).mean() == pytest.approx(metric.get())


@given(rows, st.integers(1, 20), st.integers(1, 7))
def test_all_rows_count_since_the_start_and_the_latest_most_in_the_window(
    pairs: Any, window: Any, batch: Any
) -> None:
    p, y = arrays(pairs)
    judge, weights = Prequential(window), np.zeros(0)
    for at in range(0, len(p), batch):
        part = y[at : at + batch]
        judge.update(p[at : at + batch], part)
        weights = np.append(weights * np.exp(-len(part) / window), np.ones(len(part)))
    report = judge.report()
    assert report.rows == len(p)
    assert report.log_loss == pytest.approx(log_losses(p, y).mean())
    assert report.window_rows == pytest.approx(weights.sum())
    assert report.window_log_loss == pytest.approx(np.average(log_losses(p, y), weights=weights))
    assert report.calibration == pytest.approx(p @ weights / (y @ weights or np.nan), nan_ok=True)


def test_a_restored_judgement_goes_on_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.01, 0.5, 900)
    y = (rng.random(900) < p).astype(float)
    one = Prequential(100)
    one.update(p[:500], y[:500])
    bins, meta = one.snapshot()
    other = Prequential.restore(bins, json.loads(json.dumps(meta)))
    for judge in (one, other):
        judge.update(p[500:], y[500:])
    assert one.report() == other.report()


def test_calibration_tells_too_much_from_too_little() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.3, 20_000)
    y = (rng.random(20_000) < p).astype(float)
    for factor in (0.5, 1.0, 2.0):
        judge = Prequential()
        judge.update(p * factor, y)
        assert judge.report().calibration == pytest.approx(factor, rel=0.05)
        assert (judge.report().calibration_error < 0.02) == (factor == 1.0)


def test_an_empty_judge_has_an_opinion_on_nothing() -> None:
    report = Prequential().report()
    assert report.rows == 0
    assert np.isnan([report.window_auc, report.log_loss]).all()


def test_a_window_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        Prequential(0)
