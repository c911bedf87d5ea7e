"""The event gateway: producers without Kafka post events here and get a verdict for each."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from serving.after import FOLLOWED, place_token
from serving.callers import Caller
from serving.metrics import ServerMetrics
from serving.requests import EventEnvelope, Verdict
from state.decoding import Refusal, decode_event
from state.events import Event, Item, SubjectEvent, User
from state.partition import shard_of
from state.pseudonyms import Pseudonyms
from state.settings import Settings
from state.topics import topic_name
from state.tracing import INCOMING, TRACE_HEADER, Tracing

_SEND_TIMEOUT_S = 5.0
DEEPEST = 16


class Addressed(Struct):
    """A validated event and where it goes."""

    kind: str
    event: Event
    key: str
    partition: int | None
    raw: bytes


class Gateway:
    """Validates events and publishes them.

    Parameters
    ----------
    settings
        Of the namespace.
    producer
        Of the server.
    metrics
        Where verdicts are counted.
    tracing
        Notes posts that are parts of traces; None while traces are off.
    """

    def __init__(
        self,
        settings: Settings,
        producer: AIOKafkaProducer,
        metrics: ServerMetrics,
        tracing: Tracing | None = None,
    ) -> None:
        self._settings, self._producer, self._metrics = settings, producer, metrics
        self._pseudonyms, self._tracing = Pseudonyms(settings.pseudonym_key()), tracing

    async def publish(self, envelopes: Sequence[EventEnvelope], caller: Caller) -> list[Verdict]:
        """Return one verdict an event, in order; accepted ones are acknowledged by Kafka."""
        began, parent, trace = time.time_ns(), INCOMING.get(), ""
        if self._tracing is not None and self._tracing.wants(parent):
            trace = self._tracing.note("publish", parent, (began, began), {"events": len(envelopes)})
        verdicts = await asyncio.gather(*(self._publish_one(one, caller, trace) for one in envelopes))
        for envelope, verdict in zip(envelopes, verdicts, strict=True):
            self._metrics.events.labels(envelope.kind, verdict.reason or "accepted").inc()
        return list(verdicts)

    async def _publish_one(self, envelope: EventEnvelope, caller: Caller, trace: str) -> Verdict:
        try:
            check_depth(envelope.event)
            addressed = self._address(envelope.kind, msgspec.json.encode(self._stored(envelope.event)))
            check_allowed(addressed, caller)
        except Refusal as refusal:
            return Verdict(accepted=False, reason=refusal.reason, field=refusal.field, detail=str(refusal))
        return await self.send(addressed, trace)

    def _stored(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event with the user id that is stored."""
        user_id = event.get("user_id")
        return {**event, "user_id": self._pseudonyms.of(user_id)} if isinstance(user_id, str) else event

    def _address(self, kind: str, raw: bytes) -> Addressed:
        now_ms = time.time_ns() // 1_000_000
        event = decode_event(kind, raw, received_at=now_ms, max_skew_ms=self._settings.max_skew_ms)
        if isinstance(event, Item):
            return Addressed(kind, event, event.item_id, None, raw)
        assert isinstance(event, SubjectEvent | User)
        if event.subject.startswith("s:") and isinstance(event, User):
            raise Refusal("reserved_id", "user_id", event.user_id, "an id that does not begin with 's:'")
        if isinstance(event, User) and event.carried is not None:
            raise Refusal("reserved_id", "carried", event.carried, "nothing: the engine fills it in")
        shard = shard_of(event.subject, self._settings.shards)
        return Addressed(kind, event, event.subject, shard, raw)

    async def send(self, addressed: Addressed, trace: str = "") -> Verdict:
        """Publish one validated event, as part of a trace where there is one."""
        topic = topic_name(self._settings.namespace, addressed.kind)
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                put = await self._producer.send_and_wait(
                    topic,
                    value=addressed.raw,
                    key=addressed.key.encode(),
                    partition=addressed.partition,
                    headers=[(TRACE_HEADER, trace.encode())] if trace else None,
                )
        except (KafkaError, TimeoutError) as error:
            return Verdict(
                accepted=False,
                event_id=addressed.event.event_id,
                reason="broker_unreachable",
                detail=f"the broker did not take the event: {type(error).__name__}; send it again",
            )
        token = place_token(topic, put.partition, put.offset) if addressed.kind in FOLLOWED else ""
        return Verdict(accepted=True, event_id=addressed.event.event_id, token=token)


def check_depth(event: dict[str, Any]) -> None:
    """Refuse an event that is nested deeper than any of ours, wherever: others would read it later.

    Raises
    ------
    Refusal
        Naming the field.
    """
    for field, value in event.items():
        level, depth = [value], 1
        while level := [one for held in level for one in _inside(held)]:
            depth += 1
            if depth > DEEPEST:
                raise Refusal("too_deep", field, value, f"at most {DEEPEST} levels")


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def check_allowed(addressed: Addressed, caller: Caller) -> None:
    """Refuse what a caller may not publish: the catalogue, or an erasure, with a key for events of visitors.

    Raises
    ------
    Refusal
        Naming the field.
    """
    if isinstance(addressed.event, Item) and not caller.may("catalogue"):
        raise Refusal("forbidden", "kind", addressed.kind, "a key with the scope 'catalogue'")
    if isinstance(addressed.event, User) and addressed.event.erase and not caller.may("admin"):
        raise Refusal("forbidden", "erase", True, "a key with the scope 'admin'")
