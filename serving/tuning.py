"""Changing control documents: published to Kafka, in force once the change feed brings them back."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.status_codes import (
    HTTP_409_CONFLICT,
    HTTP_412_PRECONDITION_FAILED,
    HTTP_503_SERVICE_UNAVAILABLE,
)
from msgspec import UNSET

from serving.callers import principal
from serving.gateway import Addressed, Gateway
from serving.idempotency import change_id
from serving.live import LiveState
from serving.problems import Problem, problem_response
from serving.requests import BudgetChange, ExplorationChange, RankingChange, Reasons, Rollback, Stop
from serving.store import from_store
from state.changing import Wish, change_event, check_kept, now_in_force, stop
from state.control_reads import read_history
from state.decoding import Refusal
from state.events import Control, encode
from state.exploration import Budgets, Document, Explorations, Shadow, Shadows
from state.merchandising import Merchandising, Rule
from state.ranking import Rankings
from state.settings import Settings

_WAIT_S = 5.0
_POLL_S = 0.005
BUDGET = "budget/all"


class NotInForceError(RuntimeError):
    """A change was published but is not in force here yet."""


def on_not_in_force(_: Request[Any, Any, Any], error: NotInForceError) -> Response[bytes]:
    """Answer that a change is not in force yet."""
    return problem_response(Problem("about:blank", "Not in force", HTTP_503_SERVICE_UNAVAILABLE, str(error)))


class Tuning:
    """Reads and changes exploration documents and the budget of all surfaces.

    Parameters
    ----------
    settings
        Of the namespace.
    gateway
        Publishes control events.
    live
        Where documents in force are read.
    redis
        Where earlier versions are read.
    """

    def __init__(self, settings: Settings, gateway: Gateway, live: LiveState, redis: Any) -> None:
        self._settings, self._gateway, self._live, self._redis = settings, gateway, live, redis

    def exploration(self, surface: str) -> Explorations:
        """Return the exploration in force on a surface."""
        return self._live.laws(surface, _now_ms()).document

    def budget(self) -> Budgets:
        """Return the budget of all surfaces."""
        return self._live.budget

    async def history(self, surface: str) -> list[Document]:
        """Return the versions of a surface's exploration that are kept, newest first."""
        return await self._kept(_name(surface))

    async def change(self, surface: str, change: ExplorationChange, version: int | None) -> Explorations:
        """Publish a change and return the document once it is in force on this server.

        Parameters
        ----------
        surface
            Whose exploration.
        change
            What shall be otherwise.
        version
            The version it was made from; None for whatever is in force.

        Raises
        ------
        Refusal
            If the change is not allowed.
        HTTPException
            If another version is in force, or another change came first.
        NotInForceError
            If it takes longer than five seconds, as where no worker runs.
        """
        wish = _wish(change)
        wish.forced = change.forced
        return await self._explore(surface, wish, version)

    async def stop(self, surface: str, asked: Stop) -> Explorations:
        """Turn exploration off, whatever is in force."""
        return await self._explore(surface, stop(asked.scheme, asked.changed_by, asked.why), None)

    async def rollback(self, surface: str, asked: Rollback, version: int | None) -> Explorations:
        """Bring an earlier version's settings back; refused where that version is not kept."""
        kept = [one.version for one in await self.history(surface)]
        if asked.version and asked.version not in kept:
            wished = f"0 for the defaults, or one of {kept}"
            raise Refusal("unknown_version", "version", asked.version, wished)
        wish = Wish(restores=asked.version, changed_by=asked.changed_by, why=asked.why)
        return await self._explore(surface, wish, version)

    def ranking(self, surface: str) -> Rankings:
        """Return how slates of a surface are put together."""
        return self._live.ranking(surface)

    async def change_ranking(self, surface: str, change: RankingChange, version: int | None) -> Rankings:
        """Publish a change of how slates are put together; returns once it is in force on this server."""
        document = await self.fulfil(f"ranking/{surface}", _wish(change), version)
        assert isinstance(document, Rankings)
        return document

    async def change_rules(
        self, surface: str, rules: Mapping[str, Rule], said: tuple[str, str], version: int | None
    ) -> Merchandising:
        """Publish all rules of a surface, with who and why; returns once they are in force here."""
        given = {"rules": msgspec.to_builtins(rules)}
        wish = Wish(given=given, changed_by=said[0], why=said[1])
        document = await self.fulfil(f"rules/{surface}", wish, version)
        assert isinstance(document, Merchandising)
        return document

    async def change_shadows(
        self, surface: str, policies: Mapping[str, Shadow], said: tuple[str, str], version: int | None
    ) -> Shadows:
        """Publish which policies watch a surface; the same ones again change nothing and lose no evidence."""
        now = self._live.shadows(surface).document
        if now.policies == dict(policies) and version in (None, now.version):
            return now
        given = {"policies": msgspec.to_builtins(policies)}
        wish = Wish(given=given, changed_by=said[0], why=said[1])
        document = await self.fulfil(f"shadows/{surface}", wish, version)
        assert isinstance(document, Shadows)
        return document

    async def change_budget(self, asked: BudgetChange, version: int | None) -> Budgets:
        """Change what exploration may cost on all surfaces together."""
        given = {"cost_per_hour": asked.cost_per_hour}
        wish = Wish(given=given, changed_by=asked.changed_by, why=asked.why)
        document = await self.fulfil(BUDGET, wish, version)
        assert isinstance(document, Budgets)
        return document

    async def _explore(self, surface: str, wish: Wish, version: int | None) -> Explorations:
        document = await self.fulfil(_name(surface), wish, version)
        assert isinstance(document, Explorations)
        return document

    async def fulfil(self, name: str, wish: Wish, version: int | None = None) -> Document:
        """Publish a change of a document and return it once it is in force on this server; as `change`."""
        at_ms = _now_ms()
        wish.event_id = change_id(name)
        latest = self._live.document(name)
        held = now_in_force(latest, at_ms).version
        wish.principal = principal()
        kept = await self._kept(name) if wish.restores or wish.event_id else []
        check_kept(name, wish, kept)
        made = next((one for one in kept if wish.event_id and one.change == wish.event_id), None)
        if made is not None:
            return made
        if version is not None and version != held:
            detail = f"header 'If-Match' has value {version}; wished: {held}, the version in force"
            raise HTTPException(detail=detail, status_code=HTTP_412_PRECONDITION_FAILED)
        event = change_event(name, latest, wish, at_ms, self._settings.dwell_ms)
        verdict = await self._gateway.send(Addressed("control", event, name, 0, encode(event)))
        if not verdict.accepted:
            raise NotInForceError(verdict.detail)
        return await self._arrived(event, latest.version)

    async def _kept(self, name: str) -> list[Document]:
        return await from_store(read_history(self._redis, self._settings, name))

    async def _arrived(self, event: Control, before: int) -> Document:
        """Return the document a change made, once this server has met it or a later one."""
        deadline, name = time.monotonic() + _WAIT_S, event.name
        while time.monotonic() < deadline:
            latest = self._live.document(name)
            if latest.change == event.event_id:
                return latest
            if latest.version > before:
                made = [one for one in await self._kept(name) if one.change == event.event_id]
                if made:
                    return made[0]
                if event.expects is not None:
                    raise _came_first(latest, name, before)
                before = latest.version
            await asyncio.sleep(_POLL_S)
        raise NotInForceError(
            f"the change of {name} is published but not in force: is a worker running, "
            "and do `headwater deadletters list` show it refused?"
        )


def _came_first(latest: Document, name: str, before: int) -> HTTPException:
    who = latest.changed_by or "somebody"
    detail = f"{name} was changed by {who} first, to version {latest.version}; wished: version {before}"
    return HTTPException(detail=detail, status_code=HTTP_409_CONFLICT)


def _wish(change: Reasons) -> Wish:
    given = {
        name: value
        for name in change.__struct_fields__
        if name not in ("changed_by", "why", "forced") and (value := getattr(change, name)) is not UNSET
    }
    return Wish(given=msgspec.to_builtins(given), changed_by=change.changed_by, why=change.why)


def _name(surface: str) -> str:
    return f"exploration/{surface}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
