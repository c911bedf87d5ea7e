"""What a client is told once."""

import ssl
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from serving.client.retrying import RetryRules
from serving.requests import Verdict
from state.events import Event

OnVerdict = Callable[[Event, Verdict], None]


class BatchRules(Struct, frozen=True, kw_only=True):
    """When events leave the queue, and how long they are kept.

    Attributes
    ----------
    size
        Events of one batch; so many leave at once.
    linger_s
        How long the first of a batch waits for others, s.
    queue
        Events that may wait; those beyond are refused with the verdict ``queue_full``.
    life_s
        How long an event is sent again while the server does not take it, s; then ``gave_up``.
    close_s
        How long closing waits for what is left, s; then ``not_sent``.
    """

    size: int = 100
    linger_s: float = 0.05
    queue: int = 10_000
    life_s: float = 120.0
    close_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 500:
            raise ValueError(f"size has value {self.size}; wished: 1 to 500, as the gateway takes them")
        if self.queue < 1:
            raise ValueError(f"queue has value {self.queue}; wished: at least 1")


class ClientOptions(Struct, frozen=True, kw_only=True):
    """Settings of a client.

    Attributes
    ----------
    url
        Of the server, ``http://HOST:PORT`` or ``https://``.
    api_key
        Sent as ``Authorization: Bearer``; empty for none. It is never logged.
    deadline_s
        Most a call may take with everything it does: waiting, retries and reading, s.
    attempt_s
        Most one attempt may take, s; it bounds how long a server that hangs keeps a call from a retry.
    events_s
        Most sending one batch of events may take, retries included, s.
    connections
        Most connections at once.
    tls
        For certificates that the system does not know.
    retries
        When and how often calls are repeated.
    batches
        When events leave the queue.
    read_your_clicks
        Whether an answer waits for the visitor's own latest events, up to ``wait_ms`` of the request.
    static_items
        Surface -> item ids of the slate that is answered where neither the server nor anything earlier helps.
    on_verdict
        Called with every tracked event and what became of it; on the client's own thread or loop.
    """

    url: str
    api_key: str = ""
    deadline_s: float = 1.0
    attempt_s: float = 0.5
    events_s: float = 10.0
    connections: int = 64
    tls: ssl.SSLContext | None = None
    retries: RetryRules = RetryRules()
    batches: BatchRules = BatchRules()
    read_your_clicks: bool = True
    static_items: Mapping[str, Sequence[str]] = field(default_factory=dict)
    on_verdict: OnVerdict | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url has value {self.url!r}; wished: http://HOST:PORT or https://HOST:PORT")
        for name in ("deadline_s", "attempt_s", "events_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} has value {getattr(self, name)}; wished: more than 0")

    def __repr__(self) -> str:
        return f"ClientOptions(url={self.url!r}, api_key={'***' if self.api_key else ''!r})"
