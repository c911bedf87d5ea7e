"""Calls as values: what is asked, whether it may be asked twice, and what an answer is read as."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, field

from serving.client.errors import ClientError, Problem, RefusedError, UnavailableError

T = TypeVar("T")
_SAFE = ("GET", "HEAD", "PUT", "DELETE")


class Call(Struct, Generic[T], frozen=True):
    """One call of the API.

    Attributes
    ----------
    method, path
        As HTTP has them.
    answer
        Type of the answer's body.
    body
        JSON of what is sent; empty for nothing.
    query
        Parameters of the address.
    headers
        Besides those every call has.
    repeatable
        Whether a second one has no effect of its own.
    """

    method: str
    path: str
    answer: type[T]
    body: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False

    def read(self, body: bytes) -> T:
        """Return the answer.

        Raises
        ------
        UnavailableError
            If it is not what the API answers: another program stands there, or a proxy speaks for it.
        """
        try:
            return msgspec.json.decode(body, type=self.answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnavailableError(f"not an answer of the API: {error}") from None


def make_call(  # noqa: PLR0913 - what a call consists of
    method: str,
    path: str,
    answer: type[T],
    *,
    body: Any = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    idempotency_key: str = "",
) -> Call[T]:
    """Return a call; it may be repeated where HTTP says so, or where it carries an idempotency key.

    A change made from a version (``If-Match``) is not repeated: the second would meet the first one's.
    """
    sent = {**(headers or {})}
    if idempotency_key:
        sent["Idempotency-Key"] = idempotency_key
    is_conditional = any(name.lower() == "if-match" for name in sent)
    repeatable = bool(idempotency_key) or (method in _SAFE and not is_conditional)
    raw = b"" if body is None else msgspec.json.encode(body)
    return Call(method, path, answer, raw, query or {}, sent, repeatable)


def failure(status: int, body: bytes) -> ClientError:
    """Return what an answer that is none means."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem(detail=body[:200].decode(errors="replace"))
    problem.status = status
    if status == 429 or status >= 500:
        return UnavailableError(f"{status} {problem.title}: {problem.detail}")
    return RefusedError(problem)
