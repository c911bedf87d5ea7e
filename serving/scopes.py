"""What each route needs: nothing, or a scope of the caller's key."""

from functools import lru_cache

from state.api_keys import Scope

RECOMMENDATIONS = "/v1/recommendations"
ALIVE = frozenset({"/healthz", "/readyz"})
_PUBLIC = frozenset({*ALIVE, "/", "/openapi.json", "/docs"})
_READS = frozenset({"GET", "HEAD"})
_BY_PREFIX: tuple[tuple[str, Scope], ...] = (
    (RECOMMENDATIONS, "read"),
    ("/v1/similar", "read"),
    ("/v1/events", "events"),
    ("/v1/users", "admin"),
    ("/v1/audit", "admin"),
)


@lru_cache(maxsize=512)
def needed(method: str, path: str) -> Scope | None:
    """Return the scope a request needs; None for pages that hold nothing of anybody.

    What is not named here needs ``observe`` to be read and ``tune`` to be changed below ``/v1``, and
    ``admin`` anywhere else, so that a route nobody thought of is not open.
    """
    if path in _PUBLIC or path.startswith("/docs/"):
        return None
    for prefix, scope in _BY_PREFIX:
        if path == prefix or path.startswith(f"{prefix}/"):
            return scope
    if path.startswith("/v1/") or path == "/metrics":
        return "observe" if method in _READS else "tune"
    return "admin"
