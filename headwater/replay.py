"""``headwater replay``: folds a namespace again from its journal, into another namespace."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import click

from headwater.console import become_service, checked_secret, command_settings, finish, with_namespace

GENESIS, LATEST = "genesis", "latest"
_COMMITS = re.compile(r"(?:[a-z]?\d+|c):\d+(?:,(?:[a-z]?\d+|c):\d+)*")
_LONGEST_COMMIT = 10


@click.command()
@click.option(
    "--from", "origin", default=GENESIS, show_default=True, help="genesis, or the file of a snapshot."
)
@click.option(
    "--to",
    "until",
    default=LATEST,
    show_default=True,
    help="latest; a time (ISO 8601, or ms since 1970); a commit number, or UNIT:NUMBER,... for some units.",
)
@click.option("--into", required=True, help="Namespace to fill; never the live one.")
def replay(origin: str, until: str, into: str) -> None:
    """Fold a namespace again from its journal, with the classes the workers run.

    A replay that was stopped goes on when it is said again. Workers may run meanwhile.
    """
    become_service()
    from headwater.replaying import replay_into

    settings = checked_secret(command_settings())
    with_namespace(settings, into)
    at_ms, commit, commits = read_until(until)
    path = None if origin == GENESIS else Path(origin)
    finish(asyncio.run(replay_into(settings, into, path, (at_ms, commit, commits))))


def read_until(text: str) -> tuple[int | None, int | None, dict[str, int]]:
    """Return where a replay ends: time in ms, commit number, commit numbers by unit.

    >>> read_until("1:20,m0:7")
    (None, None, {'1': 20, 'm0': 7})
    """
    if text == LATEST:
        return None, None, {}
    if text.isdigit():
        return (None, int(text), {}) if len(text) <= _LONGEST_COMMIT else (int(text), None, {})
    if _COMMITS.fullmatch(text):
        pairs = (part.split(":") for part in text.split(","))
        return None, None, {unit: int(number) for unit, number in pairs}
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r}; wished: latest, a time such as 2026-01-31T12:00:00Z, or a commit number",
            param_hint="--to",
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000), None, {}
