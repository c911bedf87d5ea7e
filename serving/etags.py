"""Versions of settings documents over HTTP: the ETag of an answer, the If-Match of a change."""

import re
from typing import Annotated, TypeVar

from litestar import Response
from litestar.params import HeaderParameter, Parameter

from serving.problems import BadRequest
from state.versioned import Versioned

D = TypeVar("D", bound=Versioned)

SurfaceName = Annotated[str, Parameter(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="Surface.")]
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        schema_extra={"pattern": r'^\s*(\*|"?[0-9]{1,15}"?)\s*$'},
        description="Version the change was made from, as the ETag says.",
    ),
]
_VERSION = re.compile(r'"?([0-9]{1,15})"?')


def tagged(document: D) -> Response[D]:
    """Return a document with its version as the ETag."""
    return Response(document, headers={"ETag": f'"{document.version}"'})


def version_of(if_match: str | None) -> int | None:
    """Return the version a header names; None for whatever is in force.

    Raises
    ------
    BadRequest
        If it is neither a version nor ``*``.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = _VERSION.fullmatch(if_match.strip())
    if found is None:
        detail = f"header 'If-Match' has value {if_match[:80]!r}; wished: a version in quotes, or *"
        raise BadRequest("If-Match", detail)
    return int(found[1])
