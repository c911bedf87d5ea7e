"""The HTTP protocol with bounds: of a request's head and size, and of how long it may take to arrive."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 65_536
LONGEST_MESSAGE = 4_000_000
"""Twice the longest body, so that the framework's own answer to a longer one arrives first."""
ARRIVES_WITHIN_S = 20.0
_HEAD_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
_BODY_TOO_LONG = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """One connection that cannot make the server hold more than a request may have, nor wait for ever."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._fed = 0
        self._waited_for: Any = None
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at how requests arrive."""
        super().connection_made(transport)
        self._look = self.loop.call_later(ARRIVES_WITHIN_S, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count anew."""
        self._fed = 0
        super().on_message_begin()

    def data_received(self, data: bytes) -> None:
        """Take in data, unless it is more than a request may have."""
        self._fed += len(data)
        if self._fed > LONGEST_MESSAGE:
            return self._refuse(_BODY_TOO_LONG)
        super().data_received(data)
        if self._fed > LONGEST_HEAD and self._is_in_head():
            self._refuse(_HEAD_TOO_LONG)
        return None

    def _is_in_head(self) -> bool:
        return self.scope is not None and "method" not in self.scope

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _look_after(self) -> None:
        """Close a connection whose request was already arriving the last time."""
        arriving = (
            self.scope is None or self._is_in_head() or (self.cycle is not None and self.cycle.more_body)
        )
        if arriving and self._waited_for == (self.scope is None or id(self.scope)):
            self.transport.close()
            return
        self._waited_for = (self.scope is None or id(self.scope)) if arriving else None
        self._look = self.loop.call_later(ARRIVES_WITHIN_S, self._look_after)
