"""The client for everybody else: the same calls, blocking, over one thread that all threads share."""

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from serving.client.asynchronous import AsyncClient
from serving.client.batching import envelope_of
from serving.client.errors import ClosedError
from serving.client.options import ClientOptions
from serving.client.slates import Slate
from serving.requests import RecommendationRequest, Verdict
from state.events import Event

T = TypeVar("T")
_RESOLVERS = 4
"""Threads that resolve names."""


class _Pool(ThreadPoolExecutor):
    """Resolves names, also at the interpreter's end, when there are no threads any more."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Run a function in a thread; in the caller's where the interpreter starts none any more."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            done: Future[T] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:  # whatever it is belongs to who waits for the result
                done.set_exception(error)
            return done


class _Engine:
    """An event loop in a thread of its own, and the client that lives there."""

    def __init__(self, options: ClientOptions) -> None:
        self.loop, self._pool = asyncio.new_event_loop(), _Pool(_RESOLVERS)
        self.loop.set_default_executor(self._pool)
        self.client = AsyncClient(options)
        self._thread = threading.Thread(target=self.loop.run_forever, name="headwater-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def stop(self) -> int:
        """Close the client and end the thread; returns how many events were not sent."""
        left = self.run(self.client.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self._pool.shutdown(wait=False)
        self.loop.close()
        return left


class Client:
    """Asks for slates, tracks events and calls any other route; safe to share between threads.

    The thread behind it starts with the first call, and anew in a process that was forked: what the parent
    has queued stays the parent's. At the interpreter's end what is queued is sent.

    Parameters
    ----------
    options
        Of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options, self._lock = options, threading.Lock()
        self._engine: _Engine | None = None
        self._is_closed = False
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> _Engine:
        with self._lock:
            if self._is_closed:
                raise ClosedError("the client is closed")
            if self._engine is None:
                self._engine = _Engine(self._options)
            return self._engine

    @property
    def figures(self) -> dict[str, int]:
        """Answers by origin, retries, events by verdict, batches, and events that wait."""
        return self._running().client.figures

    def recommend(self, request: RecommendationRequest) -> Slate:
        """Return a slate, as `AsyncClient.recommend`."""
        engine = self._running()
        return engine.run(engine.client.recommend(request))

    def track(self, event: Event) -> str:
        """Queue an event and return its id at once, as `AsyncClient.track`."""
        engine = self._running()
        envelope_of(event)  # what cannot be said is refused to whoever says it
        engine.loop.call_soon_threadsafe(engine.client.track, event)
        return event.event_id

    def publish(self, events: Sequence[Event]) -> list[Verdict]:
        """Send events past the queue and wait for their verdicts, as `AsyncClient.publish`."""
        engine = self._running()
        return engine.run(engine.client.publish(events))

    def flush(self, most_s: float | None = None) -> bool:
        """Send everything queued now; returns whether all of it has its verdict in time."""
        engine = self._running()
        return engine.run(engine.client.flush(most_s))

    def call(  # noqa: PLR0913 - what a call consists of
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
        """Call any route of the API, as `AsyncClient.call`."""
        engine = self._running()
        return engine.run(
            engine.client.call(
                method,
                path,
                answer,
                body=body,
                query=query,
                headers=headers,
                idempotency_key=idempotency_key,
                deadline_s=deadline_s,
            )
        )

    def close(self) -> int:
        """Send what is queued for a while and close; returns how many events were not sent."""
        with self._lock:
            engine, self._engine, self._is_closed = self._engine, None, True
        return engine.stop() if engine is not None else 0

    def forget_thread(self) -> None:
        """Begin anew in a forked process: the thread is the parent's, and so may the lock be."""
        self._lock, self._engine = threading.Lock(), None


_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _after_fork() -> None:
    for client in list(_clients):
        client.forget_thread()


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
