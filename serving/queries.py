"""Requests as queries of an address: words separated by commas, and refusals that name the parameter."""

from typing import Annotated, Any

import msgspec
from litestar.params import Parameter

from serving.problems import BadRequest
from serving.requests import RecommendationRequest

Words = Annotated[str, Parameter(description="Ids separated by commas.", max_length=16_384)]
Wished = Annotated[
    str | None,
    Parameter(max_length=2_048, description="What every item has to fulfil, such as `price < 20`."),
]
_PAIR = r"[a-z0-9][a-z0-9_.-]{0,63}:[^,]{1,64}"
Pairs = Annotated[
    str,
    Parameter(
        pattern=rf"^({_PAIR}(,{_PAIR}){{0,7}})?$",
        description="NAME:VALUE separated by commas, at most eight.",
        max_length=2_048,
    ),
]


def words_of(text: str) -> list[str]:
    """Return words separated by commas."""
    return [word for word in text.split(",") if word]


def pairs_of(text: str) -> dict[str, str]:
    """Return names and values separated by commas."""
    return {name: value for name, _, value in (word.partition(":") for word in words_of(text))}


def request_of(given: dict[str, Any]) -> RecommendationRequest:
    """Return a request.

    Raises
    ------
    BadRequest
        Naming the parameter that does not fit.
    """
    try:
        return msgspec.convert(given, RecommendationRequest)
    except msgspec.ValidationError as error:
        field = str(error).rsplit("$.", maxsplit=1)[-1].split("`")[0].split("[")[0]
        raise BadRequest(field, f"field '{field}' has value {given.get(field)!r}; wished: {error}") from None
