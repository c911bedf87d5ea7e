"""Changing control documents: published to Kafka, in force once the change feed brings them back."""

import asyncio
import time
import uuid
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.status_codes import HTTP_503_SERVICE_UNAVAILABLE

from serving.gateway import Addressed, Gateway
from serving.live import LiveState
from serving.problems import Problem, problem_response
from serving.requests import ExplorationChange
from state.decoding import Refusal
from state.events import Control, Explorations, encode

_WAIT_S = 2.0


class NotInForceError(RuntimeError):
    """A change was published but is not in force here yet."""


def on_not_in_force(_: Request[Any, Any, Any], error: NotInForceError) -> Response[bytes]:
    """Answer that a change is not in force yet."""
    return problem_response(Problem("about:blank", "Not in force", HTTP_503_SERVICE_UNAVAILABLE, str(error)))


class Tuning:
    """Reads and changes the exploration of surfaces.

    Parameters
    ----------
    gateway
        Publishes control events.
    live
        Where documents in force are read.
    """

    def __init__(self, gateway: Gateway, live: LiveState) -> None:
        self._gateway, self._live = gateway, live

    def exploration(self, surface: str) -> Explorations:
        """Return the exploration in force on a surface."""
        return self._live.exploration(surface)

    async def change(self, surface: str, change: ExplorationChange) -> Explorations:
        """Publish a change and return the document once it is in force on this server.

        Raises
        ------
        NotInForceError
            If that takes longer than two seconds, as where no worker runs.
        """
        current = self.exploration(surface)
        wished = change_event(surface, current, change)
        verdict = await self._gateway.send(Addressed("control", wished, wished.name, 0, encode(wished)))
        if not verdict.accepted:
            raise NotInForceError(verdict.detail)
        deadline = time.monotonic() + _WAIT_S
        while self.exploration(surface).version <= current.version:
            if time.monotonic() > deadline:
                raise NotInForceError(
                    f"the change of {wished.name} is published but not in force: is a worker running?"
                )
            await asyncio.sleep(0.005)
        return self.exploration(surface)


def change_event(surface: str, current: Explorations, change: ExplorationChange) -> Control:
    """Return the control event that turns the current document into the wished one."""
    document: dict[str, Any] = msgspec.to_builtins(change)
    settings = ("rate", "scheme", "temperature", "optimism", "floor")
    given = {name: document[name] for name in settings if document.get(name) is not None}
    if not given:
        raise Refusal("nothing_to_change", "rate", None, f"at least one of {', '.join(settings)}")
    kept = {name: getattr(current, name) for name in settings}
    return Control(
        event_id=uuid.uuid4().hex,
        occurred_at=time.time_ns() // 1_000_000,
        name=f"exploration/{surface}",
        document={**kept, **given},
        changed_by=change.changed_by,
        why=change.why,
    )
