"""The retention table leaves nothing out, and its numbers are the ones that count."""

import inspect
from typing import Any

import pytest

from state import keys
from state.retention import DAY_MS, retention, topic_retention, trend_life_ms
from state.settings import Settings
from state.topics import topic_specs


def names(where: str) -> list[str]:
    return [row.name for row in retention() if row.where == where]


def test_every_key_family_has_one_row() -> None:
    families = [
        name.removesuffix("_key")
        for name, _ in inspect.getmembers(keys, inspect.isfunction)
        if name.endswith("_key")
    ]
    assert sorted(names("key")) == sorted(families)


def test_every_topic_has_one_row() -> None:
    assert sorted(names("topic")) == sorted(spec.name[3:] for spec in topic_specs("hw", shards=1))


def test_every_named_setting_exists_and_moves_its_limit() -> None:
    for row in retention():
        if row.setting is None:
            continue
        value: Any = getattr(Settings(), row.setting)
        more: Any = tuple(2 * v for v in value) if isinstance(value, tuple) else 2 * value
        given: dict[str, Any] = {row.setting: more}
        changed = retention(Settings(**given))
        assert changed[retention().index(row)].limit != row.limit, row


def test_topics_are_made_with_the_limits_of_the_table() -> None:
    told = Settings(raw_retention_s=10 * 86_400.0, decision_retention_s=3 * 86_400.0)
    for spec in topic_specs("hw", shards=1, settings=told):
        row = topic_retention(told)[spec.name.removeprefix("hw.")]
        assert spec.configs(1)[row.means if row.means == "retention.ms" else "delete.retention.ms"] == str(
            row.limit
        )
    assert topic_retention(told)["decisions"].limit == 3 * DAY_MS


@pytest.mark.parametrize("name", ["recent", "seen", "hidden", "applied", "counted", "attributes"])
def test_what_grows_in_a_record_is_bounded(name: str) -> None:
    assert f"subject: {name}" in names("part")


def test_one_interaction_keeps_a_trend_row_for_three_months() -> None:
    assert 90 < trend_life_ms(Settings()) / DAY_MS < 95
