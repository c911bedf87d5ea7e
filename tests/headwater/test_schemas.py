"""The published schemas are the code's own, and they accept and refuse what the code does."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from headwater.schemas import check_documents, documents, write_documents
from state.events import EVENT_TYPES, Click, encode
from state.topics import topic_specs

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"
CLICK = Click(event_id="e1", occurred_at=1_750_000_000_000, session_id="s1", item_id="i1")


def test_the_published_documents_equal_the_code() -> None:
    ok, lines = check_documents(PUBLISHED)
    assert ok, f"{lines}: run `headwater schema`"
    assert {path.name for path in PUBLISHED.iterdir()} == set(documents())


def test_every_event_has_a_schema_of_its_own() -> None:
    assert set(documents()) == {f"{kind}.json" for kind in EVENT_TYPES} | {"asyncapi.json"}


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_a_schema_is_valid_json_schema(kind: str) -> None:
    Draft202012Validator.check_schema(json.loads(documents()[f"{kind}.json"]))


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        ({}, True),
        ({"colour": "red"}, True),
        ({"item_id": ""}, False),
        ({"item_id": 7}, False),
        ({"occurred_at": 5}, False),
        ({"schema": 2}, False),
        ({"surface": "Home Page"}, False),
    ],
)
def test_a_schema_says_what_the_decoder_says(change: dict[str, Any], is_valid: bool) -> None:
    schema = json.loads(documents()["clicks.json"])
    assert Draft202012Validator(schema).is_valid(json.loads(encode(CLICK)) | change) == is_valid


def test_the_asyncapi_document_names_every_topic_with_a_schema_that_exists() -> None:
    document = json.loads(documents()["asyncapi.json"])
    kinds = {spec.name.split(".", 1)[1] for spec in topic_specs("hw", 1)} - {"journal"}
    assert set(document["channels"]) == set(EVENT_TYPES) == kinds
    texts = json.dumps(document)
    for part in texts.split('"$ref": "#/')[1:]:
        place: Any = document
        for step in part.split('"')[0].split("/"):
            place = place[step]


def test_a_missing_or_changed_document_is_named(tmp_path: Path) -> None:
    assert write_documents(tmp_path)[0]
    assert check_documents(tmp_path) == (True, ["documents are up to date"])
    (tmp_path / "clicks.json").write_text("{}")
    (tmp_path / "users.json").unlink()
    ok, lines = check_documents(tmp_path)
    assert not ok
    assert lines == [f"out of date: {tmp_path / 'clicks.json'}", f"out of date: {tmp_path / 'users.json'}"]
