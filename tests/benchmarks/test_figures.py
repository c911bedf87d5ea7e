import pytest

from benchmarks._latency import bucket_quantile, quantiles_ms
from benchmarks._run import parse_samples
from benchmarks._stages import StageClock
from benchmarks._workers import waiting_claims
from benchmarks.serving import highest, rungs, stages, sustains

PAGE = """# HELP answers Answers
answers_total{surface="home",rung="trend"} 3.0
age_bucket{le="0.01"} 50.0
age_bucket{le="0.02"} 100.0
age_bucket{le="+Inf"} 100.0
"""


def test_quantiles_are_milliseconds() -> None:
    assert quantiles_ms([0.001] * 99 + [1.0])["p50_ms"] == 1.0
    assert quantiles_ms([]) == {}


def test_a_histogram_is_read_between_two_looks() -> None:
    after = parse_samples(PAGE)
    assert after['answers_total{surface="home",rung="trend"}'] == 3.0
    assert bucket_quantile({}, after, "age", 0.75) == pytest.approx(0.015)
    assert bucket_quantile({'age_bucket{le="0.01"}': 50.0}, after, "age", 0.995) > 0.0199
    assert bucket_quantile(after, after, "age", 0.5) != bucket_quantile({}, after, "age", 0.5)


def test_stages_and_rungs_are_differences() -> None:
    before = {
        'headwater_stage_seconds_sum{stage="read"}': 1.0,
        'headwater_stage_seconds_count{stage="read"}': 1.0,
    }
    after = {
        'headwater_stage_seconds_sum{stage="read"}': 1.5,
        'headwater_stage_seconds_count{stage="read"}': 501.0,
    }
    assert stages(before, after) == {"read": 1000.0}
    name = 'headwater_answers_total{rung="%s",surface="home"}'
    assert rungs({name % "trend": 2.0}, {name % "trend": 5.0, name % "personal": 1.0}) == {
        "trend": 3,
        "personal": 1,
    }


@pytest.mark.parametrize("limit", [130.0, 900.0, 5_000.0])
def test_the_search_finds_the_highest_rate_that_is_sustained(limit: float) -> None:
    def measure(rate: float) -> dict[str, float]:
        return {"rate": rate, "achieved_rps": rate, "errors": 0, "p99_ms": 5.0 if rate <= limit else 50.0}

    found, trials = highest(measure, first=400.0, steps=14)
    assert 0.94 * limit <= found <= limit
    assert all(trial["rate"] <= 2 * limit or trial["rate"] == 400.0 for trial in trials)


def test_errors_and_lag_are_never_sustained() -> None:
    good = {"rate": 100.0, "achieved_rps": 99.5, "errors": 0, "p99_ms": 9.0}
    assert sustains(good)
    assert not sustains(good | {"errors": 1})
    assert not sustains(good | {"achieved_rps": 90.0})
    assert not sustains(good | {"p99_ms": 10.5})


def test_an_inner_stage_interrupts_the_outer_one() -> None:
    now = [0.0]
    clock = StageClock(lambda: now[0])
    with clock.stage("outer"):
        now[0] += 1.0
        with clock.stage("inner"):
            now[0] += 3.0
        now[0] += 0.5
    assert clock.seconds == {"outer": 1.5, "inner": 3.0}


def test_watched_functions_are_timed_and_put_back() -> None:
    clock = StageClock()
    with clock.watching(
        {"quantiles": ["benchmarks._latency:quantiles_ms"], "gone": ["benchmarks._latency:nothing"]}
    ):
        import benchmarks._latency as watched

        assert watched.quantiles_ms([1.0])["p50_ms"] == 1000.0
        assert watched.quantiles_ms is not quantiles_ms
    assert watched.quantiles_ms is quantiles_ms
    assert clock.calls["quantiles"] == 1
    assert clock.missing == ["benchmarks._latency:nothing"]


def test_only_claims_that_wait_are_counted() -> None:
    held = {"name": "worker-1", "cmd": "eval", "flags": "b"}
    idle = {"name": "worker-0", "cmd": "get", "flags": "N"}
    assert waiting_claims([held, held, idle, {"cmd": "eval", "flags": "b"}]) == {"worker-1": 2}
