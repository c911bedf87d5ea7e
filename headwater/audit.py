"""``headwater audit``: who asked for which change of a control document, and what became of it."""

import asyncio

import click
import msgspec
from redis.exceptions import RedisError

from headwater.console import command_settings, finish, moment
from state.audit import AuditEntry, read_audit
from state.clients import redis_client
from state.settings import Settings


@click.command()
@click.option("--name", default="", help="Only documents whose names begin so, as exploration/home.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Entries shown.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
def audit(name: str, limit: int, *, as_json: bool) -> None:
    """Show the changes that were asked for, the newest first."""
    settings = command_settings()
    try:
        entries = asyncio.run(_read(settings, name, limit))
    except (RedisError, OSError, TimeoutError) as error:
        raise click.ClickException(f"cannot reach the store: {error}") from None
    if as_json:
        finish((True, [msgspec.json.encode(entry).decode() for entry in entries]))
    finish((True, [describe(entry) for entry in entries] or ["nobody has asked for a change"]))


async def _read(settings: Settings, name: str, limit: int) -> list[AuditEntry]:
    redis = redis_client(settings, timeout_s=5.0)
    try:
        return await read_audit(redis, settings, name, limit)
    finally:
        await redis.aclose()


def describe(entry: AuditEntry) -> str:
    """Return an entry in one line."""
    when = moment(entry.at)
    who = entry.principal or "unknown entrance"
    said = f" (says {entry.changed_by})" if entry.changed_by else ""
    came = f"refused: {entry.refused}" if entry.refused else f"version {entry.before} -> {entry.after}"
    back = f", back to version {entry.restores}" if entry.restores is not None else ""
    forced = ", forced" if entry.forced else ""
    what = "; ".join(f"{name} {old} -> {new}" for name, (old, new) in entry.changes.items()) or "nothing"
    why = f": {entry.why}" if entry.why else ""
    return f"{when}  {entry.name}  {who}{said}  {came}{back}{forced}  [{what}]{why}"
