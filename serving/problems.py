"""Errors as problem+json (RFC 9457), each naming the field, the value met and what is wished."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.status_codes import (
    HTTP_400_BAD_REQUEST,
    HTTP_409_CONFLICT,
    HTTP_413_REQUEST_ENTITY_TOO_LARGE,
    HTTP_500_INTERNAL_SERVER_ERROR,
)
from litestar.utils.scope.state import ScopeState
from msgspec import Struct

from state.decoding import Refusal, shorten

MEDIA_TYPE = "application/problem+json"
MAX_BODY = 2_000_000
"""Bytes of a request's body; 500 events of usual size are a fifth of it."""
_TOO_LARGE = f"field 'body' is too long; wished: at most {MAX_BODY:,} bytes"
_BODY = "data"
"""What the framework calls a request's body."""


_CONFLICTS = frozenset(
    (
        "not_better",
        "not_promotable",
        "step_too_large",
        "too_soon",
        "unknown_shadow",
        "unknown_version",
    )
)
"""Refusals that another moment might not know: the call is well made, but does not fit what is in force."""


class Problem(Struct, omit_defaults=True):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: str
    field: str = ""


class BadRequest(HTTPException):
    """A request that cannot be answered.

    Parameters
    ----------
    field
        Where it fails.
    detail
        The value met and what is wished.
    """

    status_code = HTTP_400_BAD_REQUEST

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail=detail)
        self.field = field


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """Return a problem as an HTTP response."""
    body = msgspec.json.encode(problem)
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers or {})


def on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer a refused request."""
    if error.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
        return problem_response(Problem("about:blank", "Too large", error.status_code, _TOO_LARGE, "body"))
    field = getattr(error, "field", "")
    title = "Bad request" if error.status_code == HTTP_400_BAD_REQUEST else type(error).__name__
    return problem_response(
        Problem("about:blank", title, error.status_code, error.detail, field), error.headers
    )


def on_validation_error(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """Answer a request whose body or query does not fit its schema."""
    extra = error.extra if isinstance(error.extra, list) else []
    parts = [part for part in extra if isinstance(part, dict)]
    wished = "; ".join(str(part.get("message", "")) for part in parts) or error.detail
    key = str(parts[0].get("key", "")) if parts else ""
    # A field that is missing has no key of its own: the framework then names the body, or nothing.
    field = key if key not in ("", _BODY) else _field_of(wished) or key
    if field == _BODY:
        field, wished = "body", "a JSON object" if wished == repr(_BODY) else wished
    detail = f"field '{field}' has value {_value_at(request, field)}; wished: {wished}" if field else wished
    return problem_response(Problem("about:blank", "Bad request", HTTP_400_BAD_REQUEST, detail, field))


def _value_at(request: Request[Any, Any, Any], field: str) -> str:
    """Return the value met, shortened; the framework has read the body before it refused it."""
    body = ScopeState.from_scope(request.scope).body
    try:
        value = msgspec.json.decode(body) if isinstance(body, bytes) and body else dict(request.query_params)
        for step in re.findall(r"[^.\[\]]+", field):
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (msgspec.DecodeError, KeyError, IndexError, ValueError, TypeError, RecursionError):
        return "none"
    return shorten(value)


def on_deep_nesting(_: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:  # noqa: ARG001
    """Answer a body whose brackets nobody would follow."""
    detail = "the body is nested too deeply; wished: a document as the schema has it"
    return problem_response(Problem("about:blank", "Bad request", HTTP_400_BAD_REQUEST, detail))


def on_refusal(_: Request[Any, Any, Any], error: Refusal) -> Response[bytes]:
    """Answer an event or document that cannot be understood, or that does not fit what is in force."""
    status = HTTP_409_CONFLICT if error.reason in _CONFLICTS else HTTP_400_BAD_REQUEST
    return problem_response(Problem("about:blank", error.reason, status, str(error), error.field))


def on_crash(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer when something of ours broke; what it was stays in the log."""
    title = "Internal error"
    return problem_response(
        Problem("about:blank", title, HTTP_500_INTERNAL_SERVER_ERROR, type(error).__name__)
    )


def _field_of(detail: str) -> str:
    match = re.search(r"`\$\.?([^`]*)`|field `(\w+)`|parameter '(\w+)'", detail)
    return next((part for part in match.groups() if part), "") if match else ""
