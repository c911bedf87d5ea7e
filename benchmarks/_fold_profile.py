"""Where a worker's time goes: the pure fold of the same records in this process, stage by stage."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from benchmarks._mix import KINDS, Sent
from benchmarks._stages import StageClock, Stages
from state.clients import redis_client
from state.commit import Change, claim_unit, commit
from state.keys import lane_unit, subject_unit, unit_prefix
from state.outbox import Message, decode_message
from state.settings import Settings
from stream.rows import Row, decode_row
from stream.units import logic_maker
from stream.watermark import Watermark

STAGES: Stages = {
    "decode": ["stream.rows:decode_event"],
    "routing": ["stream.admission:shard_of"],
    "duplicates": ["state.subject:SubjectRecord.has_applied", "state.subject:SubjectRecord.mark_applied"],
    "tokens": ["state.tokens:TokenSigner.open"],
    "attribution": [
        "stream.attribution:Attribution.on_decision",
        "stream.attribution:Attribution.on_impression",
        "stream.attribution:Attribution.on_reward",
        "stream.attribution:Attribution.subjects_due",
        "stream.attribution:Attribution.close",
    ],
    "interactions, sessions, trends": [
        "stream.shard:interact",
        "stream.sessions:Sessions.add",
        "online_models.trends:Trends.add",
        "online_models.trends:Trends.row_state",
    ],
    "judge, outcome": ["stream.open_decisions:judge", "stream.open_decisions:to_outcome"],
    "encode outcome": ["stream.open_decisions:encode"],
    "policy learning: unpack": ["stream.shared:learn_policy"],
    "policy learning: update": ["bandits.learner:ShardLearner.learn"],
    "pack blocks": ["stream.shared:pack_vector"],
    "encode subjects": ["stream.subjects:encode_subject", "stream.subjects:decode_subject"],
    "encode open decisions": ["stream.open_decisions:encode_open"],
    "commit: flatten": ["state.commit:_request"],
    "rest of the fold": ["stream.shard:ShardLogic.wanted", "stream.shard:ShardLogic.fold"],
    "click model (lane)": ["stream.lane:LaneLogic.fold"],
}


class Record(Struct, frozen=True):
    """One record as the broker hands it out."""

    kind: str
    partition: int
    offset: int
    at_ms: int
    value: bytes
    headers: list[tuple[str, bytes]] = []


class Folding:
    """Folds one unit's rows batch by batch and commits each, as its folder does.

    Parameters
    ----------
    settings, unit
        Of the namespace; name and partition of the unit.
    parts
        Where time is noted, client of the store, rows a commit takes.
    """

    def __init__(self, settings: Settings, unit: tuple[str, int], parts: tuple[StageClock, Any, int]) -> None:
        self._name, self._number = unit
        self._settings, (self._clock, self._redis, self._batch) = settings, parts
        self._prefix = unit_prefix(settings.namespace, self._name)
        self.waited_s = self.client_s = 0.0
        self.sent: list[Message] = []

    async def run(self, records: Sequence[Record]) -> None:
        """Decode and fold all records, batch by batch, then what falls due."""
        logic: Any = logic_maker(self._settings, self._name, self._number)()
        self._claim = await claim_unit(self._redis, self._prefix)
        logic.restore(self._claim.meta, {key: {} for key in logic.hashes})
        watermark = Watermark(logic.kinds, self._settings.lateness_ms)
        for start in range(0, len(records), self._batch):
            with self._clock.stage("rows"):
                batch = [decoded(record) for record in records[start : start + self._batch]]
            for row in batch:
                watermark.observe(row.kind, row.occurred_at(), row.received_at)
            await self._fold(logic, batch, watermark.advance({"users": batch[-1].received_at}))
        await self._fold(logic, [], records[-1].at_ms + 2_000_000)

    async def _fold(self, logic: Any, batch: Sequence[Row], at_ms: int) -> None:
        wanted = logic.wanted(batch, at_ms)
        if wanted:
            logic.put(await self._timed(self._redis.mget(wanted)))
        change: Change = logic.fold(batch, at_ms).finish()
        self.sent += [decode_message(raw) for raw in change.outbox]
        await self._timed(commit(self._redis, self._prefix, self._claim.epoch, change))

    async def _timed(self, waiting: Any) -> Any:
        """Await the store, telling our client's processor time from waiting for the answer."""
        wall, cpu, ours = time.perf_counter(), time.thread_time(), self._clock.seconds["commit: flatten"]
        answer = await waiting
        cpu, ours = time.thread_time() - cpu, self._clock.seconds["commit: flatten"] - ours
        self.client_s += cpu - ours
        self.waited_s += time.perf_counter() - wall - cpu
        return answer


async def fold_profile(
    settings: Settings, records: Sequence[Sent], batch: int, *, timer: Callable[[], float]
) -> dict[str, Any]:
    """Return microseconds a source event by stage; the lane learns from the outcomes the shards sent.

    Parameters
    ----------
    settings
        Of the namespace; a new one beside it is used.
    records
        As published.
    batch
        Rows a commit takes.
    timer
        Of the stages.
    """
    settings = msgspec.structs.replace(settings, namespace=f"{settings.namespace}-fold-{batch}")
    source = [one for one in records if one.kind in KINDS]
    clock, redis = StageClock(timer), redis_client(settings, timeout_s=60.0)
    foldings = []
    try:
        with clock.watching(STAGES):
            for shard, held in sorted(_by_shard(source).items()):
                foldings.append(Folding(settings, (subject_unit(shard), shard), (clock, redis, batch)))
                await foldings[-1].run(held)
            sent = [m for folding in foldings for m in folding.sent if m.kind == "outcomes"]
            foldings.append(Folding(settings, (lane_unit(0), 0), (clock, redis, batch)))
            await foldings[-1].run(_outcomes(sent))
    finally:
        await redis.aclose()
    each = {name: round(value, 2) for name, value in sorted(clock.each_us(len(source)).items())}
    each["store client"] = round(1e6 * sum(f.client_s for f in foldings) / len(source), 2)
    total = round(sum(each.values()), 2)
    waits = round(1e6 * sum(f.waited_s for f in foldings) / len(source), 2)
    each |= {"all, processor": total, "waiting for the store": waits}
    return {"us_per_event": each, "events": len(source), "outcomes": len(sent), "missing": clock.missing}


def decoded(record: Record) -> Row:
    """Return a record as an agent decodes it."""
    row = Row(record.kind, record.partition, record.offset, record.at_ms, None, record.value)
    return decode_row(row, record.headers, 300_000)


def _by_shard(source: Sequence[Sent]) -> dict[int, list[Record]]:
    by_shard: dict[int, list[Record]] = defaultdict(list)
    for offset, one in enumerate(source):
        by_shard[one.partition].append(Record(one.kind, one.partition, offset, one.at_ms, one.value))
    return by_shard


def _outcomes(sent: Sequence[Message]) -> list[Record]:
    """Return outcomes as the lane reads them, numbered as if one shard had sent all."""
    at_ms = time.time_ns() // 1_000_000
    marks = [Message(n + 1, "outcomes", None, b"").headers("all-shards") for n in range(len(sent))]
    return [Record("outcomes", 0, n, at_ms, message.value, marks[n]) for n, message in enumerate(sent)]
