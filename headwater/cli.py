"""The command line: ``headwater demo | worker | serve | topics | explore | schema | settings``."""

import asyncio
import gc
import importlib
import signal
import sys
from pathlib import Path

import click

from headwater.console import become_service, checked_secret, command_settings, finish
from headwater.logs import configure_logs
from state.settings import SettingsError

# Commands that live in modules of their own, imported only when they are called: a worker must not load a web
# framework, nor a server Faust.
LAZY: dict[str, str] = {
    "attribution": "headwater.attribution:attribution",
    "audit": "headwater.audit:audit",
    "backfill": "headwater.backfill:backfill",
    "deadletters": "headwater.deadletters:deadletters",
    "explore": "headwater.explore_preview:explore",
    "export": "headwater.export:export",
    "features": "headwater.features_page:features_page",
    "keys": "headwater.keys:keys",
    "models": "headwater.models:models",
    "plan": "headwater.plan:plan",
    "producers": "headwater.producers:producers",
    "ranking": "headwater.ranking_command:ranking",
    "rebuild": "headwater.rebuild:rebuild",
    "replay": "headwater.replay:replay",
    "retention": "headwater.retention:retention_page",
    "shop": "headwater.shop.command:shop",
    "snapshot": "headwater.snapshot:snapshot",
    "state-hash": "headwater.state_hash:state_hash",
    "tune": "headwater.tune:tune",
    "users": "headwater.users:users",
}


class LazyGroup(click.Group):
    """A group that also finds the commands of `LAZY`, by "module:attribute"."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *LAZY])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module where it has one of its own."""
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = LAZY[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headwater")
def main() -> None:
    """Headwater: streaming, real-time personalization.

    Every setting is an environment variable HEADWATER_*; docs/settings.md lists them.
    """


def _settle_collector() -> None:
    """Keep the garbage collector off what lives for ever, and let it look at young objects less often.

    A batch holds tens of thousands of decoded objects, none of them in a cycle: with the usual thresholds the
    collector walks them all again and again, which took a sixth of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@main.command()
def worker() -> None:
    """Fold events: own shards, learn, keep the store's state."""
    become_service()
    from stream.worker import run

    settings = checked_secret(command_settings())
    _settle_collector()
    try:
        ended = run(settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(ended)


@main.command()
def serve() -> None:
    """Answer requests over HTTP; by several processes where HEADWATER_SERVERS says so."""
    become_service()
    settings = checked_secret(command_settings())
    if settings.servers > 1:
        from headwater.servers import Servers

        sys.exit(Servers(settings).run())
    from serving.app import run

    _settle_collector()
    try:
        run(settings)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@main.group()
def topics() -> None:
    """Create or check the Kafka topics of a namespace."""


@topics.command("create")
def topics_create() -> None:
    """Create missing topics; running it again changes nothing."""
    from headwater.topics import create

    finish(asyncio.run(create(command_settings())))


@topics.command("check")
def topics_check() -> None:
    """Compare the topics with the settings; exits with 1 where they differ."""
    from headwater.topics import check

    finish(asyncio.run(check(command_settings())))


@main.command()
@click.option("--check", is_flag=True, help="Only compare; exits with 1 where files are out of date.")
@click.option("--into", type=click.Path(path_type=Path), default=Path("docs/schemas"), show_default=True)
def schema(*, check: bool, into: Path) -> None:
    """Write JSON Schemas and an AsyncAPI document of all events."""
    from headwater.schemas import check_documents, write_documents

    finish(check_documents(into) if check else write_documents(into))


@main.command("settings")
@click.option("--check", is_flag=True, help="Only compare; exits with 1 where the file is out of date.")
@click.option("--into", type=click.Path(path_type=Path), default=Path("docs/settings.md"), show_default=True)
def settings_page(*, check: bool, into: Path) -> None:
    """Write the table of all settings."""
    from headwater.settings_page import check_page, write_page

    finish(check_page(into) if check else write_page(into))


@main.command("warm-up")
def warm_up() -> None:
    """Compile the loops of the models once, so that the first start of a server does not have to."""
    from online_models.warming import warm_up as compile_all

    compile_all()


@main.command()
@click.option(
    "--events", type=click.IntRange(1, 100_000), default=6_000, show_default=True, help="Interactions."
)
@click.option("--rate", type=click.FloatRange(1, 2_000), default=60.0, show_default=True, help="A second.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the server's draws.")
@click.option("--exit", "leave", is_flag=True, help="End after the run instead of serving on.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="JSON of every figure.")
@click.option("--kafka", help="HOST:PORT of a running broker; embedded otherwise.")
@click.option("--redis", help="URL of a running store; embedded otherwise.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Of the API; 0 takes a free one.")
def demo(**options: object) -> None:
    """Publish MovieLens-100K as live traffic and watch the engine learn from it."""
    from headwater.demo.run import DemoOptions, run_demo
    from headwater.processes import EmbeddedError
    from headwater.wheels import DatasetError

    configure_logs("WARNING")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: children first
    options["stay"] = not options.pop("leave")
    try:
        sys.exit(run_demo(DemoOptions(**options)))  # type: ignore[arg-type]
    except (EmbeddedError, DatasetError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("stopped")
        sys.exit(130)
