"""Recommender settings as the environment variables a server reads, and back."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from online_models.retrieval import RecommenderSettings
from serving.live import served_retrieval
from state.settings import PREFIX, Settings, SettingsError, load_settings

PARTS = {"knn": "knn", "covisits": "covisit"}
"""Setting of the server -> part of the recommender's settings it changes."""
Changes = Mapping[str, Mapping[str, float]]
"""Setting of the server -> the values that differ from the defaults."""


def changed(base: RecommenderSettings, changes: Changes) -> RecommenderSettings:
    """Return settings with some values changed.

    Raises
    ------
    SettingsError
        If a value is unknown or out of range.
    """
    given: dict[str, Any] = {}
    for name, values in changes.items():
        part = getattr(base, PARTS[name])
        counts = {one.name for one in fields(part) if isinstance(getattr(part, one.name), int)}
        cast = {k: int(v) if k in counts and v == int(v) else v for k, v in values.items()}
        try:
            given[PARTS[name]] = replace(part, **cast)
        except (TypeError, ValueError) as error:
            told = f"setting {PREFIX}{name.upper()} has value {dict(values)}"
            raise SettingsError(f"{told}; wished: {error}") from None
    return replace(base, **given)


def of_server(settings: Settings) -> RecommenderSettings:
    """Return the recommender's settings a server would have."""
    sized = changed(RecommenderSettings(), {"knn": {"max_sessions": float(settings.max_sessions)}})
    mine = replace(changed(sized, in_force(settings)), half_lives_s=tuple(settings.trend_half_lives_s))
    return served_retrieval(mine)


def in_force(settings: Settings) -> dict[str, dict[str, float]]:
    """Return what the environment changes already."""
    return {name: getattr(settings, name) for name in PARTS}


def environment_lines(changes: Changes, held: Changes) -> list[str]:
    """Return changes as lines of an environment file; a setting is written whole, `held` values included."""
    return [
        f"{PREFIX}{name.upper()}={json.dumps({**held.get(name, {}), **values})}"
        for name, values in changes.items()
        if values
    ]


def read_tuned(path: Path) -> RecommenderSettings:
    """Return the recommender's settings an environment file asks for.

    Raises
    ------
    SettingsError
        If the file cannot be read or a line of it is no setting.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    told = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    strange = [line for line in told if "=" not in line]
    if strange:
        raise SettingsError(f"{path} has line {strange[0][:80]!r}; wished: NAME=VALUE")
    return of_server(load_settings(dict(line.split("=", 1) for line in told)))
