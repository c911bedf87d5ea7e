"""``headwater producers``: whether each producer's events are understood, as a table or as JSON."""

import asyncio
import shutil

import click
import msgspec
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.console import command_settings
from serving.producers import ProducerReport, ProducersAnswer, ProducersReader
from serving.verdicts import span
from state.clients import redis_client
from state.settings import Settings

_NARROWEST = 120


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything known, as GET /v1/producers answers it.")
def producers(*, as_json: bool) -> None:
    """Show what each producer's events were like, and what to mend; counted where they are folded."""
    try:
        answer = asyncio.run(_read(command_settings()))
    except (RedisError, OSError, TimeoutError) as error:
        raise click.ClickException(f"cannot reach the store: {error}") from None
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    width = max(_NARROWEST, shutil.get_terminal_size((140, 0)).columns)
    console = Console(width=width)
    console.print(table(answer) if answer.producers else Text("no producer has been heard of yet"))


async def _read(settings: Settings) -> ProducersAnswer:
    redis = redis_client(settings, timeout_s=5.0)
    try:
        return await ProducersReader(settings, redis).read()
    finally:
        await redis.aclose()


def table(answer: ProducersAnswer) -> Table:
    """Return the report as a table, one row a producer."""
    made = Table(title="Producers", title_justify="left", show_lines=True)
    made.add_column("producer", no_wrap=True)
    for heading in ("events", "last hours", "refused", "late", "forwarded"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("last seen", no_wrap=True)
    made.add_column("verdict", ratio=1, min_width=30)
    for one in answer.producers:
        made.add_row(*map(Text, _cells(one, answer.as_of)))
    return made


def _cells(one: ProducerReport, now_ms: int) -> list[str]:
    total = one.total
    counts = (sum(total.events.values()), sum(one.recent.events.values()))
    numbers = (*counts, total.refused, total.late, total.misrouted)
    ago = f"{span(max(0, now_ms - one.last_seen_at))} ago"
    return [one.producer, *(f"{number:,}" for number in numbers), ago, one.verdict]
