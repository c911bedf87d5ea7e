"""How far a worker is behind is read at each scrape, from the units it owns then."""

from prometheus_client import CollectorRegistry

from stream.gauges import Reading, UnitGauges, lag_of

CLICKS = ("hw.clicks", 3)
USERS = ("hw.users", 3)


def scraped(gauges: UnitGauges) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(gauges)
    return registry


def test_watermark_age_queue_and_outbox_are_those_of_the_moment() -> None:
    gauges = UnitGauges(now_s=lambda: 1000.0)
    registry = scraped(gauges)
    units = [Reading("3", 990_500, 7, 2, {})]
    gauges.read = lambda: units
    by_unit = {"unit": "3"}
    assert registry.get_sample_value("headwater_watermark_age_seconds", by_unit) == 9.5
    assert registry.get_sample_value("headwater_queue_events", by_unit) == 7
    assert registry.get_sample_value("headwater_outbox_messages", by_unit) == 2
    units.clear()
    assert registry.get_sample_value("headwater_queue_events", by_unit) is None


def test_a_unit_without_a_watermark_has_no_age() -> None:
    gauges = UnitGauges()
    gauges.read = lambda: [Reading("3", 0, 0, 0, {})]
    assert scraped(gauges).get_sample_value("headwater_watermark_age_seconds", {"unit": "3"}) is None


def test_lag_is_what_the_broker_holds_beyond_what_is_folded() -> None:
    assert lag_of({CLICKS: 90, USERS: 0}, {CLICKS: (50, 100), USERS: (0, 0)}) == {CLICKS: 10, USERS: 0}


def test_records_that_expired_unread_and_partitions_given_up_are_no_lag() -> None:
    assert lag_of({CLICKS: 10}, {CLICKS: (50, 100), USERS: (0, 5)}) == {CLICKS: 50}


def test_lag_is_told_by_topic_and_partition() -> None:
    gauges = UnitGauges()
    gauges.lag = {CLICKS: 10}
    labels = {"topic": "hw.clicks", "partition": "3"}
    assert scraped(gauges).get_sample_value("headwater_consumer_lag", labels) == 10
