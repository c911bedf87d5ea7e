from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import metrics

from online_models.prequential import Prequential, calibration_error, log_losses, roc_auc

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
    assert roc_auc(p, y) == pytest.approx(wish, nan_ok=True)


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
def test_the_window_holds_the_latest_rows_however_they_are_batched(
    pairs: Any, window: Any, batch: Any
) -> None:
    p, y = arrays(pairs)
    judge = Prequential(window)
    for at in range(0, len(p), batch):
        judge.update(p[at : at + batch], y[at : at + batch])
    report = judge.report()
    assert (report.rows, report.window_rows) == (len(p), min(len(p), window))
    assert report.log_loss == pytest.approx(log_losses(p, y).mean())
    assert report.window_log_loss == pytest.approx(log_losses(p[-window:], y[-window:]).mean())
    assert report.window_auc == pytest.approx(roc_auc(p[-window:], y[-window:]), nan_ok=True)


def test_calibration_tells_too_much_from_too_little() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.3, 20_000)
    y = (rng.random(20_000) < p).astype(float)
    for factor in (0.5, 1.0, 2.0):
        judge = Prequential()
        judge.update(p * factor, y)
        assert judge.report().calibration == pytest.approx(factor, rel=0.05)
        assert (calibration_error(p * factor, y) < 0.02) == (factor == 1.0)


def test_an_empty_judge_has_an_opinion_on_nothing() -> None:
    report = Prequential().report()
    assert report.rows == 0
    assert np.isnan([report.window_auc, report.log_loss]).all()


def test_a_window_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        Prequential(0)
