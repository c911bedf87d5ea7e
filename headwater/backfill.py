"""``headwater backfill``: imports history from files."""

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from headwater.console import command_settings
from headwater.imports.plan import ImportFailed, Plan
from headwater.imports.run import Import
from headwater.imports.shape import KINDS, Shape, ShapeError
from headwater.imports.sources import SourceError
from state.imports import IMPORT_NAME

STOPPED = 130


class Bars:
    """Progress bars on standard error.

    Parameters
    ----------
    progress
        Started.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reading = progress.add_task("fingerprint", visible=False, said="")
        self._sending = progress.add_task("import", visible=False, said="")

    def fingerprinting(self, read: int, size: int) -> None:
        """Tell how much of the files was looked at."""
        self._progress.update(self._reading, completed=read, total=size, visible=read < size)

    def going(self, read: int, size: int, counts: Counter[str]) -> None:
        """Tell how much of the files is done."""
        elapsed = self._progress.tasks[self._sending].elapsed or 0.0
        speed = f"{counts['rows'] / elapsed:,.0f} rows/s" if elapsed else ""
        said = f"{counts['rows']:,} rows, {counts['rejected']:,} rejected, {speed}"
        self._progress.update(self._sending, completed=read, total=size, visible=True, said=said)

    def tell(self, sentence: str) -> None:
        """Say something that matters."""
        self._progress.console.print(sentence, markup=False, highlight=False)


def summary(plan: Plan, counts: Counter[str]) -> list[str]:
    """Return what became of the rows, in lines."""
    if plan.dry_run:
        sent = counts["rows"] - counts["rejected"] - counts["expired"]
        lines = [f"{counts['rows']:,} rows: {sent:,} would be sent"]
    else:
        lines = [f"{counts['rows']:,} rows: {counts['sent']:,} sent"]
    if counts["expired"]:
        lines.append(f"{counts['expired']:,} left out: interactions of more than 90 days ago have no effect")
    if counts["older"]:
        lines.append(f"{counts['older']:,} left out: the catalogue has newer versions of these items")
    if counts["rejected"]:
        lines.append(f"{counts['rejected']:,} rejected, see {_rejected_names(plan.paths)}")
        reasons = {n.partition(".")[2]: c for n, c in counts.most_common() if n.startswith("rejected.")}
        lines += [f"  {count:,} {reason}" for reason, count in reasons.items()]
    return lines


def _rejected_names(paths: Sequence[Path]) -> str:
    return ", ".join(f"{path}.rejected.jsonl" for path in paths)


def _pairs(_: Any, option: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for field, _mark, other in pairs:
        if not field or not other:
            raise click.BadParameter(f"{field!r}; wished: {option.metavar}")
    return {field: other for field, _mark, other in pairs}


def _name(_: Any, __: Any, value: str) -> str:
    if not re.fullmatch(IMPORT_NAME, value):
        raise click.BadParameter(f"{value!r}; wished: 1 to 48 of a-z, 0-9, '_', '.', '-', no mark first")
    return value


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the rows are.")
@click.option("--name", required=True, callback=_name, help="Of this import: its rows count once under it.")
@click.option(
    "--map", "columns", multiple=True, callback=_pairs, metavar="FIELD=COLUMN", help="Where names differ."
)
@click.option(
    "--set", "constants", multiple=True, callback=_pairs, metavar="FIELD=VALUE", help="The same in every row."
)
@click.option("--time-unit", "unit", type=click.Choice(["s", "ms", "iso"]), default="ms", show_default=True)
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Rows a second at most.")
@click.option(
    "--ahead",
    type=click.IntRange(min=0),
    default=2_000,
    show_default=True,
    help="Rows of a partition that may wait for a worker; live events wait behind them. 0: any number.",
)
@click.option("--max-rejected", type=click.IntRange(min=0), help="Stop when more rows are rejected.")
@click.option(
    "--again", is_flag=True, help="Send all rows again; those that have arrived count no second time."
)
@click.option("--dry-run", is_flag=True, help="Only read and check; needs neither broker nor store.")
def backfill(  # noqa: PLR0913, PLR0917 - each parameter is one option
    files: Sequence[Path],
    kind: str,
    name: str,
    columns: dict[str, str],
    constants: dict[str, str],
    unit: Any,
    rate: float,
    ahead: int,
    max_rejected: int | None,
    *,
    again: bool,
    dry_run: bool,
) -> None:
    """Import history: JSON Lines, CSV or Parquet files, rows in time order.

    Stopped at any point, the same command goes on; every row counts once. FILE.rejected.jsonl tells of rows
    that cannot be taken.
    """
    shape = Shape(name, kind, columns, constants, unit)
    plan = Plan(shape, files, rate, ahead, max_rejected, dry_run, again)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: what is done is kept
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
        console=Console(stderr=True),
    )
    settings = command_settings()
    try:
        with bars, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            counts = runner.run(Import(settings, plan, Bars(bars)).run())
    except (ImportFailed, SourceError, ShapeError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on")
        sys.exit(STOPPED)
    for line in summary(plan, counts):
        click.echo(line)
