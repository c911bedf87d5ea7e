"""The client for asyncio: everything the other one does happens here."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec.structs import replace

from serving.breaker import Breaker
from serving.client.batching import Batch, Sender, envelope_of, events_call, subject_of_event
from serving.client.calls import make_call
from serving.client.errors import ClosedError, RefusedError, UnavailableError
from serving.client.options import ClientOptions
from serving.client.slates import LocalSlates, Slate
from serving.client.tokens import Tokens
from serving.client.transport import Transport
from serving.requests import RecommendationRequest, Verdict
from state.events import Click, Event, Feedback, subject_of

T = TypeVar("T")
RECOMMENDATIONS = "/v1/recommendations"
_LEAST_S = 0.001


class AsyncClient:
    """Asks for slates, tracks events and calls any other route, on one event loop.

    Parameters
    ----------
    options
        Of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._tokens, self._local = Tokens(), LocalSlates(options.static_items)
        self._breaker = Breaker()
        self._started: tuple[Transport, Sender] | None = None
        self._is_closed = False
        self._figures = Counter(live=0, last_good=0, static=0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def figures(self) -> dict[str, int]:
        """Answers by origin, retries, events by verdict, batches, and events that wait."""
        if self._started is None:
            return dict(self._figures)
        transport, sender = self._started
        waiting = len(sender.waiting)
        return {**self._figures, **sender.figures, "retries": transport.retries, "waiting": waiting}

    def _parts(self) -> tuple[Transport, Sender]:
        """Return what needs a running loop; made when it is first needed."""
        if self._is_closed:
            raise ClosedError("the client is closed")
        if self._started is None:
            transport = Transport(self._options)
            self._started = transport, Sender(self._options, transport, self._note_token)
        return self._started

    # -- slates

    async def recommend(self, request: RecommendationRequest) -> Slate:
        """Return a slate: the server's, or one that stands in, as its ``origin`` says.

        Where the client reads the visitor's own clicks, tracked events of this visitor are sent first, and
        the answer contains them or says that it is ``stale``.

        Raises
        ------
        RefusedError
            If the server refuses the request.
        UnavailableError
            If it does not answer in time and nothing can stand in.
        """
        end = time.monotonic() + self._options.deadline_s
        transport, _ = self._parts()
        if not self._breaker.allows(time.monotonic()):
            return self._stand_in(
                request, UnavailableError("the server did not answer several times in a row")
            )
        asked, is_behind = await self._waiting_for_own(request, end)
        left = max(_LEAST_S, end - time.monotonic())
        try:
            attempt_s = self._options.attempt_s + (asked.wait_ms / 1000 if asked.after else 0.0)
            # A slate that nobody gets is never shown: asking twice costs a decision, and changes nothing.
            call = replace(make_call("POST", RECOMMENDATIONS, Slate, body=asked), repeatable=True)
            slate = await transport.send(call, left, attempt_s)
        except UnavailableError as error:
            self._breaker.note(ok=False, now_s=time.monotonic())
            return self._stand_in(request, error)
        except RefusedError:
            self._breaker.note(ok=True, now_s=time.monotonic())  # it answers
            raise
        self._breaker.note(ok=True, now_s=time.monotonic())
        self._take_in(request, asked, slate)
        slate.stale = slate.stale or is_behind
        return slate

    async def _waiting_for_own(
        self, request: RecommendationRequest, end: float
    ) -> tuple[RecommendationRequest, bool]:
        """Return the request with the token of the visitor's own events, and whether one is still unsent.

        Half the time until the end is kept for the request itself.
        """
        if not self._options.read_your_clicks or request.after is not None:
            return request, False
        subject, is_behind = subject_of(request.user_id, request.session_id), False
        _, sender = self._parts()
        if sender.waiting.holds(subject):
            most_s = min(request.wait_ms / 1000, (end - time.monotonic()) / 2)
            is_behind = not await sender.flush_subject(subject, max(_LEAST_S, most_s))
        return replace(request, after=self._tokens.after(subject, time.monotonic())), is_behind

    def _take_in(self, request: RecommendationRequest, asked: RecommendationRequest, slate: Slate) -> None:
        self._figures["live"] += 1
        self._local.remember(request, slate)
        if asked.after is not None and not slate.stale:
            subject = subject_of(request.user_id, request.session_id)
            self._tokens.settle(subject, asked.after, time.monotonic())

    def _stand_in(self, request: RecommendationRequest, error: UnavailableError) -> Slate:
        slate = self._local.stand_in(request, str(error))
        if slate is None:
            raise error
        self._figures[slate.origin] += 1
        slate.stale = slate.stale or self._lacks_own(request)
        return slate

    def _lacks_own(self, request: RecommendationRequest) -> bool:
        """Return whether the visitor has done what no answer has shown yet."""
        if not self._options.read_your_clicks:
            return False
        subject, (_, sender) = subject_of(request.user_id, request.session_id), self._parts()
        return sender.waiting.holds(subject) or self._tokens.after(subject, time.monotonic()) is not None

    # -- events

    def track(self, event: Event) -> str:
        """Queue an event and return its id at once; what becomes of it goes to ``on_verdict``.

        Raises
        ------
        TypeError
            If clients cannot say such a thing.
        ClosedError
            If the client is closed.
        """
        _, sender = self._parts()
        sender.put(event)
        self._bar(event)
        return event.event_id

    async def publish(self, events: Sequence[Event]) -> list[Verdict]:
        """Send events past the queue and wait; returns one verdict an event, in order.

        Raises
        ------
        RefusedError
            If the server refuses the batch as a whole.
        UnavailableError
            If it does not answer in time; repeat the very same events then: each counts once.
        """
        transport, _ = self._parts()
        if not events:
            return []
        call = events_call(Batch([envelope_of(event) for event in events]))
        answer = await transport.send(call, self._options.events_s, self._options.events_s / 2)
        for event, verdict in zip(events, answer.verdicts, strict=True):
            self._bar(event)
            if verdict.accepted:
                self._note_token(subject_of_event(event), verdict.token)
        return answer.verdicts

    async def flush(self, most_s: float | None = None) -> bool:
        """Send everything queued now; returns whether all of it has its verdict in time."""
        _, sender = self._parts()
        return await sender.flush(self._options.events_s if most_s is None else most_s)

    def _note_token(self, subject: str, token: str) -> None:
        if subject and token:
            self._tokens.note(subject, token, time.monotonic())

    def _bar(self, event: Event) -> None:
        if isinstance(event, Click | Feedback):
            self._local.bar(event.subject, event.item_id)

    # -- everything else

    async def call(  # noqa: PLR0913 - what a call consists of
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str = "",
        deadline_s: float | None = None,
    ) -> T:
        """Call any route of the API with the client's key, deadline and retries.

        Parameters
        ----------
        method, path
            As the API's documentation has them.
        answer
            Type of the answer, for example a struct of ``serving.requests``.
        body, query, headers
            What is sent.
        idempotency_key
            Makes a write repeatable: the server does it once.
        deadline_s
            Most it may take, s; the options' where not given.

        Raises
        ------
        RefusedError
            If the server refuses it.
        UnavailableError
            If no answer came in time.
        """
        transport, _ = self._parts()
        made = make_call(
            method, path, answer, body=body, query=query, headers=headers, idempotency_key=idempotency_key
        )
        most_s = self._options.deadline_s if deadline_s is None else deadline_s
        return await transport.send(made, most_s, max(self._options.attempt_s, most_s / 2))

    async def close(self) -> int:
        """Send what is queued for a while and close; returns how many events were not sent."""
        if self._is_closed:
            return 0
        self._is_closed = True
        if self._started is None:
            return 0
        transport, sender = self._started
        try:
            return await sender.close()
        finally:
            await transport.close()
            await asyncio.sleep(0)  # lets transports of closed connections end
