"""``headwater keys``: makes, shows and ends API keys of a file; running servers follow within a second."""

import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from headwater.console import command_settings, finish, moment
from state.api_keys import SCOPES, ApiKey, Scope, new_key, read_keys, revoke, write_keys
from state.settings import SettingsError

_DAY_MS = 86_400_000
file_option = click.option(
    "--file", "path", type=click.Path(dir_okay=False, path_type=Path), help="Instead of HEADWATER_KEYS_FILE."
)


@click.group()
def keys() -> None:
    """Make, show and end API keys; the file HEADWATER_KEYS_FILE holds their hashes, never a key."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="May be repeated."
)
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), help="Until it expires; never by default."
)
@click.option("--rate", type=click.FloatRange(0.001, 1e6), help="Requests a second to each server process.")
@click.option("--burst", type=click.FloatRange(1.0, 1e6), help="Requests at once; twice the rate by default.")
@file_option
def create(name: str, scopes: tuple[Scope, ...], path: Path | None, **limits: float | None) -> None:
    """Make a key for NAME and print it, once: nobody can show it again."""
    where, now_ms = _file(path), _now_ms()
    try:
        key, kept = new_key(name, list(dict.fromkeys(scopes)), now_ms)
        days = limits.pop("days")
        expires_at = None if days is None else now_ms + round(days * _DAY_MS)
        entry = msgspec.convert({**msgspec.to_builtins(kept), **limits, "expires_at": expires_at}, ApiKey)
    except msgspec.ValidationError as error:
        raise click.ClickException(f"key {name!r} cannot be made; wished: {error}") from None
    _save(where, [*(_read(where) if where.exists() else []), entry])
    click.echo(key)
    click.echo(f"{describe(entry, now_ms)}; written to {where}", err=True)


@keys.command("list")
@file_option
def show(path: Path | None) -> None:
    """Show all keys of the file, without what they are."""
    held = _read(_file(path))
    finish((True, [describe(key, _now_ms()) for key in held] or ["no keys: nobody can call"]))


@keys.command("revoke")
@click.argument("key", metavar="ID|NAME")
@file_option
def end(key: str, path: Path | None) -> None:
    """End the key of an id, or all keys of a name, within a second."""
    where, now_ms = _file(path), _now_ms()
    left, ended = revoke(_read(where), key, now_ms)
    if not ended:
        raise click.ClickException(f"no usable key has id or name {key!r}; `headwater keys list` shows them")
    _save(where, left)
    finish((True, [describe(one, now_ms) for one in ended]))


def describe(key: ApiKey, now_ms: int) -> str:
    """Return a key in one line."""
    state = "usable"
    if key.revoked_at is not None:
        state = f"revoked {moment(key.revoked_at)}"
    elif key.expires_at is not None:
        state = f"{'expires' if key.is_usable(now_ms) else 'expired'} {moment(key.expires_at)}"
    rate = f", {key.rate:g} requests/s" if key.rate else ""
    return f"{key.id}  {key.name}: {', '.join(key.scopes)}{rate}; made {moment(key.created_at)}, {state}"


def _file(path: Path | None) -> Path:
    where = path or (Path(told) if (told := command_settings().keys_file) else None)
    if where is None:
        raise click.ClickException("no file of keys is named; wished: HEADWATER_KEYS_FILE or --file")
    return where


def _read(where: Path) -> list[ApiKey]:
    try:
        return read_keys(where)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def _save(where: Path, held: Sequence[ApiKey]) -> None:
    try:
        write_keys(where, held)
    except OSError as error:
        raise click.ClickException(f"{where} cannot be written: {error.strerror}") from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
