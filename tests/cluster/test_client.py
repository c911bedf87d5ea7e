"""The client of a cluster and a server's reads of it, on a real cluster whose nodes sleep and die."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from redis.exceptions import RedisError

from headwater.embedded import EmbeddedRuntime
from serving.app import end_tasks, make_live
from serving.following import ClusterReads
from serving.metrics import ServerMetrics
from serving.reader import SubjectReader
from serving.sync import Sync
from state.clients import redis_client
from state.cluster import ClusterClient
from state.commit import Change, claim_unit, commit
from state.feed import ShardFeed, encode_feed
from state.keys import counters_key, subject_key, subject_unit, unit_prefix
from state.partition import shard_of
from state.settings import Settings
from state.subject import SubjectRecord, encode_subject
from tests.cluster.nodes import StoreClusterNodes

pytestmark = pytest.mark.integration
SHARDS = 8
PATIENCE_S = 30.0


@pytest.fixture
def cluster() -> Iterator[StoreClusterNodes]:
    with StoreClusterNodes() as running:
        yield running


@pytest.fixture
def settings(cluster: StoreClusterNodes, namespace: str) -> Settings:
    return Settings(redis=cluster.url, namespace=namespace, shards=SHARDS, redis_timeout_ms=300)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[ClusterClient]:
    made = redis_client(settings, timeout_s=settings.redis_timeout_ms / 1000)
    assert isinstance(made, ClusterClient)
    yield made
    await made.aclose()


def prefixes_of(settings: Settings) -> list[str]:
    return [unit_prefix(settings.namespace, subject_unit(n)) for n in range(settings.shards)]


def visitors_of(settings: Settings) -> dict[int, str]:
    """Return one visitor of each shard."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < settings.shards:
        found.setdefault(shard_of(f"visitor-{number}", settings.shards), f"visitor-{number}")
        number += 1
    return found


async def fill(client: ClusterClient, settings: Settings) -> None:
    """Store a record of one visitor of each shard."""
    prefixes = prefixes_of(settings)
    for shard, visitor in visitors_of(settings).items():
        await client.set(subject_key(prefixes[shard], visitor), encode_subject(SubjectRecord(clicks=shard)))


async def read_all(reader: SubjectReader, settings: Settings) -> dict[int, int | None]:
    """Return what requests of the same moment read: clicks of each shard's visitor, or None."""
    visitors = visitors_of(settings)
    records = await asyncio.gather(*(reader.read(visitor) for visitor in visitors.values()))
    return {
        shard: None if record is None else record.clicks
        for shard, record in zip(visitors, records, strict=True)
    }


async def until_read(reader: SubjectReader, settings: Settings, wished: dict[int, int]) -> None:
    """Read until every shard's visitor is read; the first requests may find no connection in time."""
    deadline = time.monotonic() + PATIENCE_S
    while await read_all(reader, settings) != wished:
        assert time.monotonic() < deadline


async def test_requests_of_one_moment_read_all_nodes_and_a_sleeping_one_costs_only_its_own_shards(
    cluster: StoreClusterNodes, client: ClusterClient, settings: Settings
) -> None:
    await fill(client, settings)
    reader = SubjectReader(settings, client, ServerMetrics())
    whole = {shard: shard for shard in range(SHARDS)}
    await until_read(reader, settings, whole)
    prefixes = prefixes_of(settings)
    lost = cluster.owner(prefixes[0])
    touched = {shard for shard in whole if cluster.owner(prefixes[shard]) == lost}
    assert touched < whole.keys()

    cluster.primaries[lost].pause()
    deadline = time.monotonic() + PATIENCE_S
    degraded = False
    while time.monotonic() < deadline:
        started = time.monotonic()
        found = await read_all(reader, settings)
        assert time.monotonic() - started < 3.0
        degraded = degraded or {shard for shard, clicks in found.items() if clicks is None} == touched
        if degraded and found == whole:  # the replica has taken over
            break
        await asyncio.sleep(0.05)
    assert degraded
    assert found == whole
    cluster.primaries[lost].wake()


async def test_feeds_of_other_units_go_on_while_one_units_node_is_away(
    cluster: StoreClusterNodes, client: ClusterClient, settings: Settings
) -> None:
    reads, prefixes = ClusterReads(client), prefixes_of(settings)
    epochs = {prefix: (await claim_unit(client, prefix)).epoch for prefix in prefixes}

    async def change(prefix: str) -> None:
        fields = {counters_key(prefix): {"folded": b"1"}}
        await commit(client, prefix, epochs[prefix], Change(fields=fields, feed=b"changed"))

    for prefix in prefixes:
        await change(prefix)
        meta, counters = await reads.unit(prefix, [counters_key(prefix)])
        assert (int(meta[0]), int(meta[1]), counters) == (epochs[prefix], 1, {b"folded": b"1"})
    lost = cluster.owner(prefixes[0])
    away = {prefix for prefix in prefixes if cluster.owner(prefix) == lost}
    left = set(prefixes) - away
    assert left

    cluster.primaries[lost].kill()
    for prefix in left:
        await change(prefix)
    cursors = dict.fromkeys(prefixes, 1)
    loaded_at = reads.read_at()
    assert await followed(reads, cursors, left) == left
    assert reads.read_at() < loaded_at + 2.0  # as old as what is away
    await until_written(change, away)
    assert await followed(reads, cursors, away) == away
    await reads.stop()


async def test_a_server_applies_what_other_nodes_tell_while_one_is_silent(
    cluster: StoreClusterNodes, client: ClusterClient, settings: Settings
) -> None:
    prefixes = prefixes_of(settings)
    epochs = {prefix: (await claim_unit(client, prefix)).epoch for prefix in prefixes}
    told = encode_feed(ShardFeed(bandit_shared=True))  # makes the server read the shard's blocks as well
    feeds = redis_client(settings, timeout_s=5.0)
    sync = Sync(settings, feeds, make_live(settings))
    following = asyncio.create_task(sync.run())
    await asyncio.wait_for(sync.ready.wait(), PATIENCE_S)

    lost = cluster.owner(prefixes[0])
    left = [prefix for prefix in prefixes if cluster.owner(prefix) != lost]
    for prefix in prefixes:
        await commit(client, prefix, epochs[prefix], Change(feed=told))
    cluster.primaries[lost].pause()
    for _ in range(10):
        for prefix in left:
            await commit(client, prefix, epochs[prefix], Change(feed=told))
        await asyncio.sleep(0.1)
    assert sync.applied >= 10 * len(left)
    assert sync.reloads == 1
    cluster.primaries[lost].wake()
    await end_tasks([following])
    await feeds.aclose()


async def until_written(change: Callable[[str], Awaitable[None]], prefixes: set[str]) -> None:
    """Write to units as soon as their node's replica lets us."""
    for prefix in prefixes:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                await change(prefix)
            except (RedisError, OSError):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            else:
                break


async def followed(reads: ClusterReads, cursors: dict[str, int], wished: set[str]) -> set[str]:
    """Follow until all wished units have told of a change; returns which have."""
    told: set[str] = set()
    deadline = time.monotonic() + PATIENCE_S
    while not wished <= told and time.monotonic() < deadline:
        for prefix, entries in (await reads.entries(cursors)).items():
            cursors[prefix] += len(entries)
            told.add(prefix)
    return told


async def test_a_cluster_no_node_of_which_answers_is_a_store_that_cannot_be_reached() -> None:
    client = redis_client(Settings(redis="redis+cluster://127.0.0.1:1,127.0.0.1:2"), timeout_s=0.5)
    with pytest.raises(RedisError, match="no node of the cluster for GET"):
        await client.get("{hw:0}:meta")
    await client.aclose()


async def test_a_single_store_named_as_a_cluster_is_refused(runtime: EmbeddedRuntime) -> None:
    client = redis_client(Settings(redis=runtime.redis.replace("redis:", "redis+cluster:")), timeout_s=0.5)
    with pytest.raises(RedisError, match="Cluster mode is not enabled"):
        await client.get("{hw:0}:meta")
    await client.aclose()
