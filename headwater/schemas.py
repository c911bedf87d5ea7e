"""``headwater schema``: JSON Schemas and an AsyncAPI document, generated from the event structs."""

import json
from pathlib import Path
from typing import Any

import msgspec

from state.events import EVENT_TYPES
from state.topics import topic_specs

_ABOUT = {
    "impressions": "what a client showed",
    "clicks": "clicks on items",
    "feedback": "likes, dislikes, ratings, purchases and other feedback",
    "items": "catalogue upserts; a null value removes the item under its key",
    "users": "profiles, consent, login merges, erasure requests",
    "decisions": "slates as the server decided them",
    "outcomes": "closed decisions with rewards and propensities",
    "directives": "what model lanes are told to do",
    "deadletters": "events that could not be understood, with their reasons",
    "control": "versioned control documents",
}
_CLIENT_KINDS = {"impressions", "clicks", "feedback", "items", "users"}


def documents() -> dict[str, str]:
    """Return file name -> text of every generated document."""
    schemas, components = msgspec.json.schema_components(
        EVENT_TYPES.values(), ref_template="#/components/schemas/{name}"
    )
    texts = {f"{kind}.json": _text(_standalone(kind)) for kind in EVENT_TYPES}
    texts["asyncapi.json"] = _text(_asyncapi(dict(zip(EVENT_TYPES, schemas, strict=True)), components))
    return texts


def _standalone(kind: str) -> dict[str, Any]:
    schema = msgspec.json.schema(EVENT_TYPES[kind])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": kind, **schema}


def _asyncapi(schemas: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    specs = {spec.name.split(".", 1)[1]: spec for spec in topic_specs("namespace", 4)}
    channels = {
        kind: {
            "address": "{namespace}." + kind,
            "description": _ABOUT[kind] + ("; compacted" if specs[kind].compacted else ""),
            "parameters": {"namespace": {"description": "Topic prefix of the tenant", "default": "hw"}},
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"}},
        }
        for kind in EVENT_TYPES
    }
    messages = {
        kind: {"contentType": "application/json", "summary": _ABOUT[kind], "payload": schemas[kind]}
        for kind in EVENT_TYPES
    }
    operations = {
        f"{'publish' if kind in _CLIENT_KINDS else 'read'}_{kind}": {
            "action": "receive" if kind in _CLIENT_KINDS else "send",
            "channel": {"$ref": f"#/channels/{kind}"},
        }
        for kind in EVENT_TYPES
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Headwater events", "version": "1", "description": "Topics of one namespace."},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": components},
    }


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def write_documents(into: Path) -> tuple[bool, list[str]]:
    """Write every document; returns success and lines to print."""
    into.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (into / name).write_text(text, encoding="utf-8")
    return True, [f"wrote {len(documents())} documents into {into}"]


def check_documents(into: Path) -> tuple[bool, list[str]]:
    """Compare the files with the code; returns whether they are equal, and the names that differ."""
    stale = [name for name, text in documents().items() if not _same(into / name, text)]
    return not stale, [f"out of date: {into / name}" for name in stale] or ["documents are up to date"]


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text
