"""The OpenAPI document says what the server does."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.exceptions.base_exceptions import LitestarDeprecationWarning
from msgspec import convert
from msgspec.json import encode

from serving.app import build_app
from serving.examples import EXAMPLES
from serving.preview_routes import ShadowsChange
from serving.problems import MEDIA_TYPE
from serving.requests import (
    BudgetChange,
    EventBatch,
    ExplorationChange,
    RankingChange,
    RecommendationRequest,
    Rollback,
    RuleChange,
    Stop,
)
from serving.scoreboard import Promotion
from state.decoding import decode_event
from state.filters import parse_filter
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


TAKEN_BY = {
    "/v1/recommendations": RecommendationRequest,
    "/v1/events": EventBatch,
    "/v1/exploration/{surface}": ExplorationChange,
    "/v1/exploration/{surface}/stop": Stop,
    "/v1/exploration/{surface}/rollback": Rollback,
    "/v1/exploration-budget": BudgetChange,
    "/v1/ranking/{surface}": RankingChange,
    "/v1/rules/{surface}/{name}": RuleChange,
    "/v1/exploration/{surface}/shadows": ShadowsChange,
    "/v1/exploration/{surface}/promote": Promotion,
}


def test_every_body_is_shown_by_an_example_that_its_route_takes(document: dict[str, Any]) -> None:
    shown = {
        name.split(" ")[1]: operation["requestBody"]["content"]["application/json"].get("example")
        for name, operation in operations(document)
        if "requestBody" in operation
    }
    assert shown.keys() == TAKEN_BY.keys()
    for path, example in shown.items():
        convert(example, TAKEN_BY[path])


def test_filters_and_events_of_examples_are_understood() -> None:
    assert parse_filter(EXAMPLES["post", "/v1/recommendations"]["filter"])
    assert parse_filter(EXAMPLES["put", "/v1/rules/{surface}/{name}"]["where"])
    for one in EXAMPLES["post", "/v1/events"]["events"]:
        told = one["event"]
        event = decode_event(one["kind"], encode(told), received_at=told["occurred_at"])
        assert (event.event_id, event.occurred_at) == (told["event_id"], told["occurred_at"])
