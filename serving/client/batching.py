"""Events on their way: queued, sent in batches, again while the server is away, each with its verdict."""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from serving.client.calls import Call, make_call
from serving.client.errors import ClientError, RefusedError
from serving.client.options import ClientOptions
from serving.client.transport import Transport
from serving.requests import EventVerdicts, Verdict
from state.events import EVENT_TYPES, Event, SubjectEvent, User

log = logging.getLogger("headwater.client")
PATH = "/v1/events"
BATCH_BYTES = 1_000_000
CLIENT_KINDS = ("impressions", "clicks", "feedback", "items", "users")
_KIND_OF = {EVENT_TYPES[kind]: kind for kind in CLIENT_KINDS}
OnAccepted = Callable[[str, str], None]
Condition = Callable[[], bool]
_AWAY = "broker_unreachable"
"""The gateway's word for events that are as they should be and that Kafka has not taken."""
_NOT_THE_EVENTS_FAULT = (401, 403)


class Envelope(Struct):
    """An event as the gateway takes it, encoded once."""

    kind: str
    event: msgspec.Raw


class Batch(Struct):
    """Events as the gateway takes them."""

    events: list[Envelope]


class Queued(Struct):
    """An event that waits, since when, and whether it has its verdict."""

    event: Event
    envelope: Envelope
    since: float
    is_done: bool = False


def subject_of_event(event: Event) -> str:
    """Return whose event it is; empty for items."""
    return event.subject if isinstance(event, SubjectEvent | User) else ""


def envelope_of(event: Event) -> Envelope:
    """Return an event as it travels.

    Raises
    ------
    TypeError
        If clients cannot say such a thing.
    """
    kind = _KIND_OF.get(type(event))
    if kind is None:
        wished = ", ".join(type_.__name__ for type_ in _KIND_OF)
        raise TypeError(f"event has type {type(event).__name__}; wished: one of {wished}")
    return Envelope(kind, msgspec.Raw(msgspec.json.encode(event)))


def events_call(batch: Batch) -> Call[EventVerdicts]:
    """Return the call that publishes events; it may be repeated, as the engine knows each event's id."""
    return replace(make_call("POST", PATH, EventVerdicts, body=batch), repeatable=True)


class Waiting:
    """The bounded queue: in order, and which visitors have something in it.

    Parameters
    ----------
    most
        Events that may wait.
    """

    def __init__(self, most: int) -> None:
        self._most, self._events = most, deque[Queued]()
        self._by_subject: Counter[str] = Counter()
        self._held = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def oldest_at(self) -> float:
        """When the first was put."""
        return self._events[0].since

    def put(self, queued: Queued) -> bool:
        """Append an event; returns False where there is no room."""
        if self._held >= self._most:
            return False
        self._held += 1
        self._events.append(queued)
        self._by_subject[subject_of_event(queued.event)] += 1
        return True

    def take(self, size: int) -> list[Queued]:
        """Take the next batch out; its events stay counted until they are done with."""
        batch: list[Queued] = []
        total = 0
        while self._events and len(batch) < size:
            total += len(self._events[0].envelope.event)
            if batch and total > BATCH_BYTES:
                break
            batch.append(self._events.popleft())
        return batch

    def put_back(self, batch: Sequence[Queued]) -> None:
        """Put events without a verdict back to the front, in their order."""
        self._events.extendleft(queued for queued in reversed(batch) if not queued.is_done)

    def done(self, queued: Queued) -> None:
        """Note that an event has its verdict."""
        queued.is_done = True
        self._held -= 1
        subject = subject_of_event(queued.event)
        self._by_subject[subject] -= 1
        if not self._by_subject[subject]:
            del self._by_subject[subject]

    def take_all(self) -> list[Queued]:
        """Take everything out."""
        left, self._events = list(self._events), deque()
        return left

    def holds_any(self) -> bool:
        """Return whether any event waits, or is under way."""
        return self._held > 0

    def holds(self, subject: str) -> bool:
        """Return whether an event of a visitor waits, or is under way."""
        return subject in self._by_subject


class Sender:
    """Sends queued events, one batch at a time, so that those of a visitor keep their order.

    Parameters
    ----------
    options
        Of the client.
    transport
        Where batches go.
    on_accepted
        Called with the subject and the token of each accepted event.
    """

    def __init__(self, options: ClientOptions, transport: Transport, on_accepted: OnAccepted) -> None:
        self._options, self._rules, self._transport = options, options.batches, transport
        self._on_accepted = on_accepted
        self._random = random.Random()
        self.waiting = Waiting(options.batches.queue)
        self._wake, self._progress = asyncio.Event(), asyncio.Condition()
        self._is_urgent = False
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self.figures = Counter(accepted=0, refused=0, batches=0, failed_batches=0)

    def put(self, event: Event) -> None:
        """Queue an event; one that finds no room gets its verdict at once."""
        queued = Queued(event, envelope_of(event), time.monotonic())
        if not self.waiting.put(queued):
            detail = f"{self._rules.queue} events wait already; the server takes fewer than come"
            self._tell(
                event, Verdict(accepted=False, event_id=event.event_id, reason="queue_full", detail=detail)
            )
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._wake.set()

    async def flush(self, most_s: float) -> bool:
        """Send everything without waiting for more; returns whether all of it has its verdict in time."""
        return await self._until(lambda: not self.waiting.holds_any(), most_s)

    async def flush_subject(self, subject: str, most_s: float) -> bool:
        """Send until nothing of a visitor waits; returns whether that came in time."""
        return await self._until(lambda: not self.waiting.holds(subject), most_s)

    async def _until(self, is_done: Condition, most_s: float) -> bool:
        self._is_urgent = True
        self._wake.set()
        try:
            async with asyncio.timeout(most_s), self._progress:
                await self._progress.wait_for(is_done)
        except TimeoutError:
            return False
        return True

    async def close(self) -> int:
        """Send what is left for a while; what then is left gets its verdict. Returns how much that is."""
        if self._task is not None:
            await self.flush(self._rules.close_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left = self.waiting.take_all()
        for queued in left:
            self._settle(queued, _unsent(queued, "not_sent", "the client was closed"))
        return len(left)

    async def _run(self) -> None:
        while True:
            await self._wait_for_batch()
            batch = self.waiting.take(self._rules.size)
            if not batch:
                continue
            try:
                await self._send(batch)
            except Exception as error:  # whatever it is, events are not lost, and the next are sent
                self._fail([queued for queued in batch if not queued.is_done], repr(error))
            finally:
                self.waiting.put_back(batch)
            async with self._progress:
                self._progress.notify_all()
            if self._failures:
                await asyncio.sleep(self._options.retries.pause_s(min(self._failures, 10), self._random))

    async def _wait_for_batch(self) -> None:
        """Wait until a batch is full, old enough or wanted at once."""
        while True:
            self._wake.clear()
            if not self.waiting:
                self._is_urgent = False
                await self._wake.wait()
                continue
            left = self.waiting.oldest_at + self._rules.linger_s - time.monotonic()
            if self._is_urgent or len(self.waiting) >= self._rules.size or left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _send(self, batch: list[Queued]) -> None:
        """Send a batch; those that may still succeed are left without a verdict."""
        self.figures["batches"] += 1
        body = Batch([queued.envelope for queued in batch])
        call = events_call(body)
        try:
            answer = await self._transport.send(call, self._options.events_s, self._options.events_s / 2)
        except RefusedError as error:
            await self._isolate(batch, error)
            return
        except ClientError as error:
            self._fail(batch, str(error))
            return
        self._take_in(batch, answer.verdicts)

    async def _isolate(self, batch: list[Queued], error: RefusedError) -> None:
        """Find the events for which a whole batch was refused by halving it; the others shall not suffer."""
        problem = error.problem
        if len(batch) == 1 or problem.status in _NOT_THE_EVENTS_FAULT:
            for queued in batch:
                self._settle(queued, _unsent(queued, "refused", str(error), problem.field))
            return
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            await self._send(part)
            if not all(queued.is_done for queued in part):
                return  # what comes after must not overtake what is sent again

    def _take_in(self, batch: list[Queued], verdicts: list[Verdict]) -> None:
        if len(verdicts) != len(batch):
            self._fail(batch, f"{len(verdicts)} verdicts for {len(batch)} events")
            return
        away = [queued for queued, verdict in zip(batch, verdicts, strict=True) if verdict.reason == _AWAY]
        self._failures = 0
        for queued, verdict in zip(batch, verdicts, strict=True):
            if verdict.reason != _AWAY:
                self._settle(queued, verdict)
        if away:
            self._fail(away, "the broker does not take events")

    def _fail(self, batch: Sequence[Queued], why: str) -> None:
        """Keep events for another try, unless they have waited for too long."""
        self._failures += 1
        self.figures["failed_batches"] += 1
        log.warning("events not taken, sent again: %s", why)
        born = time.monotonic() - self._rules.life_s
        for queued in batch:
            if queued.since <= born:
                self._settle(queued, _unsent(queued, "gave_up", why))

    def _settle(self, queued: Queued, verdict: Verdict) -> None:
        self.waiting.done(queued)
        if verdict.accepted:
            self._on_accepted(subject_of_event(queued.event), verdict.token)
        self._tell(queued.event, verdict)

    def _tell(self, event: Event, verdict: Verdict) -> None:
        self.figures["accepted" if verdict.accepted else "refused"] += 1
        if self._options.on_verdict is None:
            if not verdict.accepted:
                log.warning("event %s refused: %s %s", event.event_id, verdict.reason, verdict.detail)
            return
        try:
            self._options.on_verdict(event, verdict)
        except Exception:
            log.exception("on_verdict failed")


def _unsent(queued: Queued, reason: str, detail: str, field: str = "") -> Verdict:
    event_id = queued.event.event_id
    return Verdict(accepted=False, event_id=event_id, reason=reason, field=field, detail=detail)
