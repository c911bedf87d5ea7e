"""Errors as problem+json (RFC 9457), each naming the field, the value met and what is wished."""

import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.status_codes import HTTP_400_BAD_REQUEST, HTTP_500_INTERNAL_SERVER_ERROR
from msgspec import Struct

from state.decoding import Refusal

MEDIA_TYPE = "application/problem+json"


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


def problem_response(problem: Problem) -> Response[bytes]:
    """Return a problem as an HTTP response."""
    return Response(msgspec.json.encode(problem), status_code=problem.status, media_type=MEDIA_TYPE)


def on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer a refused request."""
    field = getattr(error, "field", "")
    title = "Bad request" if error.status_code == HTTP_400_BAD_REQUEST else type(error).__name__
    return problem_response(Problem("about:blank", title, error.status_code, error.detail, field))


def on_validation_error(_: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """Answer a request whose body or query does not fit its schema."""
    extra = error.extra if isinstance(error.extra, list) else []
    fields = [str(part.get("key", "")) for part in extra if isinstance(part, dict)]
    messages = [str(part.get("message", "")) for part in extra if isinstance(part, dict)]
    detail = "; ".join(m for m in messages if m) or error.detail
    field = fields[0] if fields and fields[0] else _field_of(detail)
    return problem_response(Problem("about:blank", "Bad request", HTTP_400_BAD_REQUEST, detail, field))


def on_refusal(_: Request[Any, Any, Any], error: Refusal) -> Response[bytes]:
    """Answer an event or document that cannot be understood."""
    return problem_response(
        Problem("about:blank", error.reason, HTTP_400_BAD_REQUEST, str(error), error.field)
    )


def on_crash(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer when something of ours broke; what it was stays in the log."""
    title = "Internal error"
    return problem_response(
        Problem("about:blank", title, HTTP_500_INTERNAL_SERVER_ERROR, type(error).__name__)
    )


def _field_of(detail: str) -> str:
    match = re.search(r"`\$\.?([^`]*)`|field `(\w+)`", detail)
    return (match[1] or match[2] or "") if match else ""
