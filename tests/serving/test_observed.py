"""What a server notes beside answers and times: shares of sampled decisions, ages, and the door."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from bandits.exploration import Exploration
from serving.admission import Lateness
from serving.candidates import LETTERS, SOURCES
from serving.decide import decide
from serving.guard import Guard
from serving.metrics import ServerMetrics
from serving.observed import EVERY, Ages, DecisionSample, DoorMetrics, SlotTally
from serving.reader import SubjectReader
from state.clients import redis_client
from state.settings import Settings
from tests.serving.world import call, crowded, regular


def read(*collectors: object) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)  # type: ignore[arg-type]
    return registry


def test_every_sixteenth_decision_tells_its_candidates_features_and_slots_at_the_floor() -> None:
    live = crowded(items=200, sessions=50)
    sample = DecisionSample(live.registry.names)
    registry = read(sample)
    decided = decide(live, call(record=regular(live), k=5))
    assert decided is not None
    low = min(decided.slate.propensities.tolist())
    for _ in range(2 * EVERY + 1):
        sample.note(decided.scored, decided.slate, Exploration(floor=min(low, 0.01)))
    value = registry.get_sample_value
    rows = len(decided.scored.found.rows)
    assert value("headwater_sampled_decisions_total") == 2
    assert value("headwater_sampled_slots_total") == 10
    assert value("headwater_sampled_rows_total") == 2 * rows
    found = [s for family in registry.collect() for s in family.samples if "candidates" in s.name]
    assert sum(s.value for s in found) == 2 * rows
    known = value("headwater_sampled_feature_known_total", {"feature": "trend_slow"})
    assert known is not None
    assert 0 < known <= 2 * rows
    at_floor = sum(p <= min(low, 0.01) * 1.001 for p in decided.slate.propensities.tolist())
    assert value("headwater_sampled_floor_slots_total") == 2 * at_floor


def test_slots_are_told_by_how_they_were_drawn_and_by_what_found_them() -> None:
    tally = SlotTally()
    registry = read(tally)
    often, once, never = list(LETTERS[:3])
    tally.note(1, often + often + once)
    tally.note(0, often)
    value = registry.get_sample_value
    assert value("headwater_slots_total", {"kind": "explored"}) == 1
    assert value("headwater_slots_total", {"kind": "exploited"}) == 3
    assert value("headwater_shown_total", {"source": SOURCES[often]}) == 3
    assert value("headwater_shown_total", {"source": SOURCES[once]}) == 1
    assert value("headwater_shown_total", {"source": SOURCES[never]}) is None


def test_ages_fall_into_their_buckets_and_a_clock_ahead_counts_as_no_age() -> None:
    ages = Ages()
    registry = read(ages)
    for age in (-3.0, 0.004, 0.04, 2.0, 60.0):
        ages.note(age)
    value = registry.get_sample_value
    counts = [
        value("headwater_freshness_seconds_bucket", {"le": le}) for le in ("0.005", "0.05", "5.0", "+Inf")
    ]
    assert counts == [2, 3, 4, 5]
    assert value("headwater_freshness_seconds_sum") == 62.044


def test_the_door_tells_who_was_turned_away_how_many_are_inside_and_what_is_not_asked(tmp_path: Path) -> None:
    settings = Settings()
    guard, lateness = Guard(settings), Lateness()
    reader = SubjectReader(settings, redis_client(settings, timeout_s=0.05), ServerMetrics())
    registry = read(DoorMetrics(guard, lateness, reader))
    guard.turned["forbidden"] = 3
    guard.recommendations.enter()
    guard.is_draining = True
    lateness.last_s = 0.002
    value = registry.get_sample_value
    assert value("headwater_turned_away_total", {"why": "forbidden"}) == 3
    assert value("headwater_turned_away_total", {"why": "overloaded"}) == 0
    assert value("headwater_in_flight", {"route": "recommendations"}) == 1
    assert value("headwater_in_flight_limit", {"route": "recommendations"}) == 64
    assert (value("headwater_draining"), value("headwater_loop_lateness_seconds")) == (1, 0.002)
    assert value("headwater_store_breakers_open") == 0
