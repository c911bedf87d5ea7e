"""What every command needs: the settings of its environment, and a way to end with lines and an exit code."""

import getpass
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from headwater.logs import configure_logs
from state.settings import Settings, SettingsError, load_settings


def become_service() -> None:
    """Set what numpy reads when it is first imported: more BLAS threads only slow small matrices down."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def command_settings() -> Settings:
    """Return the settings of the environment; ends the command where one cannot be used."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    configure_logs(settings.log_level)
    return settings


def with_namespace(settings: Settings, namespace: str) -> Settings:
    """Return the settings of another namespace; ends the command where its name cannot be one."""
    try:
        return msgspec.convert({**msgspec.to_builtins(settings), "namespace": namespace}, Settings)
    except msgspec.ValidationError as error:
        raise click.ClickException(f"namespace is {namespace!r}; wished: {error}") from None


def checked_secret(settings: Settings) -> Settings:
    """Return the settings; ends the command where a secret is missing or short."""
    try:
        settings.secret()
        settings.erasure_key()
        settings.pseudonym_key()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    return settings


def principal() -> str:
    """Return who runs this command, for the audit record."""
    try:
        return f"command:{getpass.getuser()}"[:128]
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"command:{os.getuid()}"


def finish(result: tuple[bool, Sequence[str]]) -> None:
    """Print lines and end the command: with 0, or with 1 where it did not go well."""
    ok, lines = result
    for line in lines:
        click.echo(line)
    sys.exit(0 if ok else 1)


def moment(at_ms: int) -> str:
    """Return a time for people; a dash for none."""
    if not at_ms:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
