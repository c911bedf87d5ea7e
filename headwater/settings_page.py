"""``headwater settings``: the page of all settings, generated from their definition."""

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec

from state.settings import PREFIX, SECRETS, Settings

_HEAD = """# Settings

Every setting is an environment variable; a bad value is refused at start with a message that names it.
Secrets, and the URL of the store with its password, may stand in a file, as `HEADWATER_TOKEN_SECRET_FILE`;
so for `HEADWATER_ERASURE_SECRET`, `HEADWATER_PSEUDONYM_SECRET`, `HEADWATER_KAFKA_SASL_PASSWORD` and
`HEADWATER_REDIS`. This page is written by `headwater settings`.

| variable | default | what |
|---|---|---|
"""


def page() -> str:
    """Return the page's text."""
    about = _descriptions()
    defaults: dict[str, Any] = msgspec.to_builtins(Settings())
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(name, defaults[name])} | {about[name]} |"
        for name in Settings.__struct_fields__
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _descriptions() -> dict[str, str]:
    """Return each setting's description, read from the class's docstring."""
    body = inspect.cleandoc(Settings.__doc__ or "").split("----------\n", 1)[1]
    about: dict[str, str] = {}
    for match in re.finditer(r"^(\S[^\n]*)\n((?:    [^\n]*\n?)+)", body + "\n", re.MULTILINE):
        text = " ".join(line.strip() for line in match[2].splitlines())
        for name in match[1].split(", "):
            about[name] = text
    return about


def _default(name: str, value: Any) -> str:
    if name in SECRETS or value is None or value in ("", {}):
        return "none"
    return (
        f"`{msgspec.json.encode(value).decode()}`" if isinstance(value, dict | list | tuple) else f"`{value}`"
    )


def write_page(into: Path) -> tuple[bool, list[str]]:
    """Write the page; returns success and lines to print."""
    into.write_text(page(), encoding="utf-8")
    return True, [f"wrote {into}"]


def check_page(into: Path) -> tuple[bool, list[str]]:
    """Compare the page with the code."""
    same = into.exists() and into.read_text(encoding="utf-8") == page()
    return same, ["settings page is up to date" if same else f"out of date: {into}"]
