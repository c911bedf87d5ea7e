"""The OpenAPI document as the server really behaves: struct constraints whole, and how errors look."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
from litestar import Litestar
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIType
from litestar.routes import HTTPRoute
from msgspec import Struct

from serving.examples import EXAMPLES
from serving.problems import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{name}"
_VERBS = ("get", "put", "post", "delete")


def complete_document(app: Litestar) -> None:
    """Complete an application's document in place, before anybody reads it.

    The framework leaves out of a struct's schema that unknown fields are refused, and what keys of its
    mappings look like; it takes every union for one whose members exclude each other; and of errors it knows
    one.
    """
    document = app.openapi_schema
    _, ours = msgspec.json.schema_components(list(_structs_of(app)), ref_template=_REF)
    document.components.schemas = {**(document.components.schemas or {}), **ours}
    for path, item in (document.paths or {}).items():
        for verb, operation in _operations(item):
            _complete(operation)
            _show_example(operation, EXAMPLES.get((verb, path)))


def _structs_of(app: Litestar) -> Iterator[type[Struct]]:
    """Yield whatever structs the documented routes take and give."""
    yield Problem
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if handler.resolve_include_in_schema():
                hints = get_type_hints(handler.fn, include_extras=True)
                yield from _structs_in([hints.get("data"), hints.get("return")])
                responses = handler.resolve_responses() if hasattr(handler, "resolve_responses") else {}
                yield from _structs_in([spec.data_container for spec in (responses or {}).values()])


def _structs_in(annotations: list[Any]) -> Iterator[type[Struct]]:
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, Struct):
            yield annotation
        yield from _structs_in(list(get_args(annotation)))


def _operations(item: PathItem) -> Iterator[tuple[str, Operation]]:
    yield from ((verb, operation) for verb in _VERBS if (operation := getattr(item, verb)) is not None)


def _show_example(operation: Operation, body: dict[str, Any] | None) -> None:
    if body is not None and isinstance(operation.request_body, RequestBody):
        for media in operation.request_body.content.values():
            media.example = body


def _complete(operation: Operation) -> None:
    """Say of an operation that whatever goes wrong is answered with a problem document."""
    for parameter in operation.parameters or ():
        if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
            parameter.schema = _sent(parameter.schema)
    responses = operation.responses or {}
    responses.pop("400", None)
    for response in responses.values():
        for media in (getattr(response, "content", None) or {}).values():
            if isinstance(media.schema, Schema) and media.schema.one_of:
                media.schema.any_of, media.schema.one_of = media.schema.one_of, None
    problem = OpenAPIMediaType(schema=Reference(ref=_REF.format(name=Problem.__name__)))
    why = "Why there is no answer: `status` and `title` say what, `field` where, `detail` what is wished."
    responses["default"] = OpenAPIResponse(description=why, content={MEDIA_TYPE: problem})
    operation.responses = responses


def _sent(schema: Schema) -> Schema:
    """Return a parameter's schema without the null that its absence means: nobody can send one."""
    kinds = [one for one in schema.one_of or () if getattr(one, "type", None) != OpenAPIType.NULL]
    if schema.one_of is None or len(kinds) != 1 or not isinstance(kinds[0], Schema):
        return schema
    kinds[0].pattern, kinds[0].description = schema.pattern or kinds[0].pattern, schema.description
    return kinds[0]
