"""Topics are made once, checked in plain words, and never made by a mere look."""

from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from headwater.embedded import EmbeddedRuntime
from headwater.processes import free_port
from state.retention import DAY_MS
from state.settings import Settings
from state.topics import (
    SUBJECT_KINDS,
    TopicError,
    TopicSpec,
    check_topics,
    create_topics,
    topic_name,
    topic_specs,
)


def by_kind(specs: list[TopicSpec]) -> dict[str, TopicSpec]:
    return {spec.name.removeprefix("hw."): spec for spec in specs}


def test_subject_topics_share_one_partition_count() -> None:
    specs = by_kind(topic_specs("hw", shards=7, item_shards=3, lanes=2))
    assert {specs[kind].partitions for kind in SUBJECT_KINDS} == {7}
    counts = {kind: spec.partitions for kind, spec in specs.items() if kind not in SUBJECT_KINDS}
    assert counts == {
        "items": 3,
        "outcomes": 2,
        "directives": 2,
        "journal": 7,
        "deadletters": 7,
        "control": 1,
    }


def test_only_the_catalogue_is_compacted() -> None:
    specs = by_kind(topic_specs("hw", shards=1))
    assert {kind for kind, spec in specs.items() if spec.compacted} == {"items"}


def test_control_is_kept_whole_for_ever_as_each_change_is_judged_by_the_ones_before() -> None:
    configs = by_kind(topic_specs("hw", shards=1))["control"].configs(replication=1)
    assert (configs["cleanup.policy"], configs["retention.ms"]) == ("delete", "-1")


def test_decisions_are_kept_for_a_month_and_raw_events_for_a_quarter() -> None:
    specs = by_kind(topic_specs("hw", shards=1))
    short = {kind for kind, spec in specs.items() if spec.retention_ms == 30 * DAY_MS}
    assert short == {"decisions", "outcomes", "directives"}
    others = {kind: spec.retention_ms for kind, spec in specs.items() if kind not in {*short, "control"}}
    assert set(others.values()) == {90 * DAY_MS}


def test_a_compacted_topic_shows_deletions_as_long_as_raw_events_live() -> None:
    configs = TopicSpec("hw.items", 1, compacted=True).configs(replication=3)
    assert configs == {
        "cleanup.policy": "compact",
        "delete.retention.ms": str(90 * DAY_MS),
        "min.insync.replicas": "2",
    }


@pytest.mark.parametrize("namespace", ["", "a b", "-x", "ü", "x" * 101, "a/b"])
def test_an_illegal_namespace_is_named_in_the_error(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace: "):
        topic_specs(namespace, shards=1)


@pytest.mark.parametrize("field", ["shards", "item_shards", "lanes"])
def test_a_count_below_one_is_named_in_the_error(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: 0 is below 1"):
        topic_specs("hw", **({"shards": 1} | {field: 0}))  # type: ignore[arg-type]


async def test_topics_are_made_once_and_then_fit(runtime: EmbeddedRuntime, namespace: str) -> None:
    specs = topic_specs(namespace, shards=3, item_shards=2)
    assert len(await check_topics(runtime.kafka, specs)) == len(specs)
    assert sorted(await create_topics(runtime.kafka, specs)) == sorted(spec.name for spec in specs)
    assert await create_topics(runtime.kafka, specs) == []
    assert await check_topics(runtime.kafka, specs) == []


async def test_a_missing_topic_is_reported_and_not_made(runtime: EmbeddedRuntime, namespace: str) -> None:
    specs = topic_specs(namespace, shards=1)
    for _ in range(2):
        assert f"topic {namespace}.clicks is missing" in await check_topics(runtime.kafka, specs)
    admin = AIOKafkaAdminClient(bootstrap_servers=runtime.kafka)
    await admin.start()
    assert not [name for name in await admin.list_topics() if name.startswith(namespace)]
    await admin.close()


async def test_another_partition_count_or_cleanup_is_reported(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    made = TopicSpec(topic_name(namespace, "clicks"), 3)
    await create_topics(runtime.kafka, [made])
    wished = replace(made, partitions=4, compacted=True)
    assert await check_topics(runtime.kafka, [wished]) == [
        f"topic {namespace}.clicks has 3 partitions, 4 wished",
        f"topic {namespace}.clicks has cleanup.policy delete, compact wished",
    ]


def test_the_settings_say_how_long_topics_keep_records() -> None:
    told = Settings(raw_retention_s=5 * 86_400.0, decision_retention_s=2 * 86_400.0)
    specs = by_kind(topic_specs("hw", shards=1, settings=told))
    assert (specs["clicks"].retention_ms, specs["outcomes"].retention_ms) == (5 * DAY_MS, 2 * DAY_MS)


@pytest.mark.parametrize("compacted", [False, True])
async def test_another_retention_is_reported(
    runtime: EmbeddedRuntime, namespace: str, *, compacted: bool
) -> None:
    made = TopicSpec(topic_name(namespace, "clicks"), 1, compacted=compacted, retention_ms=5 * DAY_MS)
    await create_topics(runtime.kafka, [made])
    name = "delete.retention.ms" if compacted else "retention.ms"
    assert await check_topics(runtime.kafka, [replace(made, retention_ms=7 * DAY_MS)]) == [
        f"topic {namespace}.clicks has {name} {5 * DAY_MS}, {7 * DAY_MS} wished"
    ]
    assert await check_topics(runtime.kafka, [made]) == []


async def test_an_existing_topic_is_left_as_it_is(runtime: EmbeddedRuntime, namespace: str) -> None:
    made = TopicSpec(topic_name(namespace, "clicks"), 3)
    await create_topics(runtime.kafka, [made])
    assert await create_topics(runtime.kafka, [replace(made, partitions=4)]) == []
    assert await check_topics(runtime.kafka, [made]) == []


async def test_records_go_through_a_made_topic_in_order(runtime: EmbeddedRuntime, namespace: str) -> None:
    name = topic_name(namespace, "clicks")
    await create_topics(runtime.kafka, [TopicSpec(name, 2)])
    async with AIOKafkaProducer(bootstrap_servers=runtime.kafka, acks="all") as producer:
        for number in range(50):
            await producer.send_and_wait(name, str(number).encode(), partition=1)
    async with AIOKafkaConsumer(bootstrap_servers=runtime.kafka) as consumer:
        consumer.assign([TopicPartition(name, 1)])
        await consumer.seek_to_beginning()
        assert [int((await consumer.getone()).value) for _ in range(50)] == list(range(50))


@pytest.mark.kafka
async def test_a_topic_that_the_broker_refuses_is_named(runtime: EmbeddedRuntime, namespace: str) -> None:
    name = topic_name(namespace, "clicks")
    with pytest.raises(TopicError, match=f"topic {name} is refused by the broker: .*[Rr]eplication"):
        await create_topics(runtime.kafka, [TopicSpec(name, 1)], replication=50)


async def test_a_broker_that_is_away_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(TopicError, match=address):
        await check_topics(address, topic_specs("hw", shards=1))


async def test_less_than_one_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="replication: 0 is below 1"):
        await create_topics("127.0.0.1:1", [], replication=0)
