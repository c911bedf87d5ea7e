"""A primary of the store's cluster is killed in mid-stream: its replica takes over, all counts are exact."""

import asyncio
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from headwater.embedded import EmbeddedRuntime
from serving.requests import RecommendationAnswer
from state.keys import lane_unit, meta_key, subject_unit, unit_prefix
from tests.cluster.nodes import StoreClusterNodes, StoreNode
from tests.integration.rig import Child, Processes, Rig, engine_settings, is_alive, make_items, until
from tests.integration.traffic import Visits, assert_exact

RATE = 20.0
SHARDS = 4
GENRES = ("drama", "comedy", "crime", "romance")
RUNGS = {"personal", "session", "segment", "trend"}


@pytest.fixture
def cluster() -> Iterator[StoreClusterNodes]:
    with StoreClusterNodes() as running:
        yield running


def meta_of(namespace: str, unit: str) -> str:
    return meta_key(unit_prefix(namespace, unit))


def spread_namespace(cluster: StoreClusterNodes) -> str:
    """Return a namespace with at least two shards on one primary, and its lane on another."""
    while True:
        namespace = f"t{uuid.uuid4().hex[:12]}"
        owners = Counter(cluster.owner(meta_of(namespace, subject_unit(n))) for n in range(SHARDS))
        lane = cluster.owner(meta_of(namespace, lane_unit(0)))
        if len(owners) > 1 and owners.most_common(1)[0][1] >= 2 and owners.most_common(1)[0][0] != lane:
            return namespace


class FailingOver:
    """One primary with several shards, its replica, and what is asked of them."""

    def __init__(self, rig: Rig, cluster: StoreClusterNodes) -> None:
        namespace = rig.settings.namespace
        metas = [meta_of(namespace, subject_unit(n)) for n in range(SHARDS)]
        number = Counter(map(cluster.owner, metas)).most_common(1)[0][0]
        self.primary, self.replica = cluster.primaries[number], cluster.replicas[number]
        self._metas = [meta for meta in metas if cluster.owner(meta) == number]

    def commits(self, node: StoreNode) -> list[int]:
        """Return the last commit of each of its shards, as a node knows it."""
        return [int(node.ask("HGET", meta, "commit") or 0) for meta in self._metas]

    async def promoted(self) -> None:
        """Wait until the replica takes writes."""

        async def takes_writes() -> bool:
            return await asyncio.to_thread(self.replica.is_primary)

        await until(takes_writes, "the replica is promoted")


class Asking(Visits):
    """Visits that remember which rung each answer came from."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.rungs: Counter[str] = Counter()

    async def show(self, user: str, answer: RecommendationAnswer) -> None:
        """Note the rung, then show as always."""
        self.rungs[answer.rung] += 1
        await super().show(user, answer)

    async def more(self, rung: str, count: int) -> None:
        """Wait until so many more answers came from a rung."""
        goal = self.rungs[rung] + count

        async def are_there() -> bool:
            return self.rungs[rung] >= goal

        await until(are_there, f"{count} more answers of rung {rung}, {dict(self.rungs)} so far")


@asynccontextmanager
async def steady(rig: Rig) -> AsyncIterator[Asking]:
    visits = Asking(rig)
    async with asyncio.TaskGroup() as group:
        group.create_task(visits.run(RATE))
        try:
            yield visits
        finally:
            visits.stop()


@pytest.fixture
async def clustered(runtime: EmbeddedRuntime, cluster: StoreClusterNodes) -> AsyncIterator[Rig]:
    """A namespace on a cluster."""
    settings = engine_settings(
        runtime.kafka,
        cluster.url,
        spread_namespace(cluster),
        redis_timeout_ms=200,
        shards=SHARDS,
    )
    with Processes(settings) as processes:
        async with Rig(processes) as rig:
            yield rig


async def more_learnt(rig: Rig, outcomes: int) -> None:
    """Wait until the lane has learnt so many more outcomes."""
    await rig.learnt((await rig.folded()).learnt + outcomes)


def server_of(rig: Rig) -> Child:
    return rig.processes.children[1]


async def test_a_killed_primary_costs_no_event_and_every_request_is_answered(
    clustered: Rig, cluster: StoreClusterNodes
) -> None:
    rig = clustered
    (worker,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    failing = FailingOver(rig, cluster)
    async with steady(rig) as visits:
        await visits.more("personal", 40)
        failing.primary.kill()
        await visits.more("trend", 1)
        await failing.promoted()
        await visits.more("personal", 60)
    await assert_exact(rig, visits.truth)
    assert visits.rungs.keys() <= RUNGS
    assert is_alive(worker)
    assert is_alive(server_of(rig))


@pytest.mark.parametrize("killed", ["only the primary", "primary and worker"])
async def test_commits_that_no_replica_has_are_folded_again_and_count_once(
    clustered: Rig, cluster: StoreClusterNodes, killed: str
) -> None:
    rig = clustered
    (worker,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    failing = FailingOver(rig, cluster)
    async with steady(rig) as visits:
        await visits.more("personal", 40)
        await more_learnt(rig, 20)
        behind = failing.commits(failing.primary)
        failing.replica.pause()
        failing.primary.ask("CLIENT", "KILL", "TYPE", "replica")
        assert failing.primary.ask("ROLE")[2] == [], "nothing may reach the replica from here on"
        await more_learnt(rig, 40)
        ahead = failing.commits(failing.primary)
        if killed == "primary and worker":
            worker.kill()
            assert await rig.ended(worker) == -signal.SIGKILL
        failing.primary.kill()
        failing.replica.wake()
        await failing.promoted()
        if killed == "primary and worker":
            worker = rig.processes.worker()
        await visits.more("personal", 60)
    await assert_exact(rig, visits.truth)
    assert all(after > before for before, after in zip(behind, ahead, strict=True))
    assert is_alive(worker)
    assert is_alive(server_of(rig))
