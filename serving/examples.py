"""One request body for each operation that takes one, as the OpenAPI document shows it."""

from typing import Any

EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/v1/recommendations"): {
        "session_id": "s-81f0",
        "user_id": "u-17",
        "surface": "home",
        "k": 5,
        "context": {"device": "phone", "country": "nl"},
        "filter": 'category in ["drama", "crime"] and not (year < 1990)',
        "exclude": ["50"],
    },
    ("post", "/v1/events"): {
        "events": [
            {
                "kind": "clicks",
                "event": {
                    "event_id": "c-1",
                    "occurred_at": 1_760_000_000_000,
                    "session_id": "s-81f0",
                    "user_id": "u-17",
                    "item_id": "50",
                },
            }
        ]
    },
    ("put", "/v1/exploration/{surface}"): {"rate": 0.05, "why": "new catalogue", "changed_by": "growth"},
    ("post", "/v1/exploration/{surface}/stop"): {"why": "complaints"},
    ("post", "/v1/exploration/{surface}/rollback"): {"version": 3, "why": "version 4 cost too much"},
    ("put", "/v1/exploration-budget"): {"cost_per_hour": 5.0, "why": "sale week"},
    ("put", "/v1/ranking/{surface}"): {"category_cap": 3, "diversity": 0.5, "no_repeat_s": 86_400.0},
    ("put", "/v1/rules/{surface}/{name}"): {
        "action": "boost",
        "where": 'brand == "acme" and price < 20',
        "factor": 2.0,
        "why": "spring campaign",
    },
    ("put", "/v1/exploration/{surface}/shadows"): {
        "policies": {"bolder": {"scheme": "softmax", "temperature": 0.2}},
        "why": "is a softmax better?",
    },
    ("post", "/v1/exploration/{surface}/promote"): {"shadow": "bolder", "why": "better for a week"},
}
"""Verb and path -> a body that its route takes."""
