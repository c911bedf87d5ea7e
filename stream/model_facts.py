"""Measures of a surface's models in the form everybody reads them in."""

import math

from online_models.click import ClickModel
from online_models.evidence import Comparison
from online_models.heads import HeadModels
from state.models import Evidence, HeadFacts, SegmentFacts


def heads_facts(heads: HeadModels) -> dict[str, HeadFacts]:
    """Return head -> its measures."""
    return {head: _head_facts(model) for head, model in heads.models.items()}


def _head_facts(model: ClickModel) -> HeadFacts:
    report, raw = model.report(), model.raw_report()
    slope, shift = model.correction.values.tolist()
    return HeadFacts(
        kind=model.settings.kind,
        rows=report.rows,
        steps=model.steps,
        log_loss=known(report.log_loss),
        base_log_loss=known(report.base_log_loss),
        window_log_loss=known(report.window_log_loss),
        window_auc=known(report.window_auc),
        rate=known(model.click_rate),
        calibration=known(report.calibration),
        calibration_error=known(report.calibration_error),
        raw_calibration_error=known(raw.calibration_error),
        correction=(slope, shift),
        calibration_alarms=model.drift.calibration_alarms,
        loss_alarms=model.drift.loss_alarms,
        memory_rows=model.memory_rows,
    )


def segment_facts(heads: HeadModels) -> list[SegmentFacts]:
    """Return measures of the segments met."""
    return [
        SegmentFacts(one.name, one.rows, one.clicks, known(one.calibration), known(one.log_loss))
        for one in heads.segments.report()
    ]


def evidence_of(comparison: Comparison) -> Evidence:
    """Return a comparison with its interval; ends that are infinite as None."""
    interval, totals = comparison.interval(), comparison.totals()
    ends = [end if math.isfinite(end) else None for end in (interval.low, interval.high)]
    return Evidence(interval.outcomes, totals["sum"], totals["squares"], interval.mean, *ends)


def known(number: float) -> float:
    """Return a number, or 0 where it is none."""
    return number if math.isfinite(number) else 0.0
