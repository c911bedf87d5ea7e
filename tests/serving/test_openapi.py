"""The OpenAPI document says what the server does."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning

from serving.app import build_app
from serving.problems import MEDIA_TYPE
from state.settings import Settings

VERBS = ("get", "put", "post", "delete")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitestarDeprecationWarning)  # of how routes declare their parameters
        return build_app(Settings(token_secret="sixteen or more letters")).openapi_schema.to_schema()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield from ((f"{verb} {path}", item[verb]) for verb in VERBS if verb in item)


def test_every_error_is_a_problem_document(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    assert len(found) > 20
    for name, operation in found.items():
        assert list(operation["responses"]["default"]["content"]) == [MEDIA_TYPE], name
        assert "400" not in operation["responses"], name
    assert set(document["components"]["schemas"]["Problem"]["required"]) >= {"title", "status", "detail"}


def test_a_body_that_refuses_unknown_fields_says_so(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("RecommendationRequest", "EventBatch", "ExplorationChange"):
        assert schemas[name]["additionalProperties"] is False, name


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_no_parameter_is_a_null_that_nobody_can_send(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert "null" not in str(parameter["schema"].get("oneOf", "")), (name, parameter)


def test_answers_of_an_erasure_are_told_apart(document: dict[str, Any]) -> None:
    erase = document["paths"]["/v1/users/{user_id}"]["delete"]["responses"]
    named = {
        status: str(erase[status]["content"]).split("schemas/")[1].split("'")[0] for status in ("200", "202")
    }
    assert named == {"200": "Receipt", "202": "Pending"}
