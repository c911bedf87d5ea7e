"""What a client may meet; every error says whether asking again may help."""

from typing import ClassVar

from msgspec import Struct


class Problem(Struct):
    """A problem document of the server (RFC 9457); ``field`` names what to mend."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    field: str = ""


class ClientError(Exception):
    """Whatever keeps the client from an answer.

    Attributes
    ----------
    retriable
        Whether the same call may succeed later.
    """

    retriable: ClassVar[bool] = False


class RefusedError(ClientError):
    """The server understood the call and refused it: mend it instead of repeating it.

    Attributes
    ----------
    problem
        Its problem document.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        field = f" (field '{problem.field}')" if problem.field else ""
        super().__init__(f"{problem.status} {problem.title}{field}: {problem.detail}")


class UnavailableError(ClientError):
    """No answer within the deadline: nobody there, overloaded, or too slow."""

    retriable: ClassVar[bool] = True


class ClosedError(ClientError):
    """The client was closed before the call."""
