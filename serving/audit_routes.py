"""The audit record over HTTP."""

from typing import Annotated, Any

from litestar import Request, get
from litestar.datastructures import State
from litestar.params import Parameter

from serving.store import from_store
from state.audit import AuditEntry, read_audit
from state.settings import Settings

_Beginning = Annotated[str, Parameter(max_length=96, description="Only documents whose names begin so.")]
_Limit = Annotated[int, Parameter(ge=1, le=10_000, description="Entries returned at most.")]


class AuditReader:
    """Reads the audit record of a namespace.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._settings, self._redis = settings, redis

    async def read(self, name: str, limit: int) -> list[AuditEntry]:
        """Return the latest entries, newest first."""
        return await read_audit(self._redis, self._settings, name, limit)


@get("/v1/audit", summary="Who asked for which change, and what became of it")
async def get_audit(
    request: Request[Any, Any, State], name: _Beginning = "", limit: _Limit = 100
) -> list[AuditEntry]:
    """Return the changes of control documents that were asked for, the newest first."""
    entries: list[AuditEntry] = await from_store(request.app.state.audit.read(name, limit))
    return entries
