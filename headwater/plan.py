"""``headwater plan``: how much memory the store needs, and how many shards, before anything is started."""

from typing import Any

import click
import msgspec

from headwater.console import command_settings, finish
from headwater.population import Population
from headwater.sizing import Plan
from headwater.sizing import plan as make_plan
from state.store_memory import LAYOUTS

_COUNT = click.IntRange(0, 10**9)
_EACH = {"subject": "user", "sessions": "session", "decision": "decision kept", "items": "item"}


@click.command("plan")
@click.option("--users", type=_COUNT, required=True, help="Subjects with a record.")
@click.option("--items", type=_COUNT, required=True, help="Items of the catalogue.")
@click.option("--sessions", type=_COUNT, required=True, help="Sessions; HEADWATER_MAX_SESSIONS caps them.")
@click.option("--decisions-per-day", type=_COUNT, help="Slates a day; one for each tenth user if not given.")
@click.option(
    "--interactions", type=click.FloatRange(1, 10_000), default=8.0, show_default=True, help="Of a user."
)
@click.option("--slots", type=click.IntRange(1, 200), default=10, show_default=True, help="Of a slate.")
@click.option(
    "--candidates", type=click.IntRange(1, 1000), default=200, show_default=True, help="Of a decision."
)
@click.option(
    "--surfaces", type=click.IntRange(1, 10_000), default=1, show_default=True, help="With a model each."
)
@click.option(
    "--rows-per-commit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="On average."
)
@click.option(
    "--store", type=click.Choice(sorted(LAYOUTS)), default="valkey", show_default=True, help="Which layout."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(*, store: str, as_json: bool, **given: Any) -> None:
    """Predict the store's memory for a population, by key family, under the settings of the environment."""
    settings = command_settings()
    if given["decisions_per_day"] is None:
        given["decisions_per_day"] = given["users"] // 10
    made = make_plan(Population(**given), settings, LAYOUTS[store])
    finish(
        (
            True,
            [msgspec.json.encode(document(made, settings.shards)).decode()]
            if as_json
            else lines(made, settings.shards),
        )
    )


def document(made: Plan, shards: int) -> dict[str, Any]:
    """Return a plan as JSON."""
    each = {
        f"bytes_per_{_EACH[f.name].split()[0]}": round(f.each, 1) for f in made.families if f.name in _EACH
    }
    return {
        "families": {
            f.name: {"count": f.count, "each": round(f.each, 1), "total": round(f.total)}
            for f in made.families
        },
        **each,
        "total": round(made.total),
        "shards": shards,
        "suggested_shards": made.shards,
        "peak_rows_a_second": round(made.rows_a_second, 1),
        "peak_commits_a_second": round(made.commits_a_second, 1),
    }


def lines(made: Plan, shards: int) -> list[str]:
    """Return a plan as lines to print."""
    rows = [f"{f.name:<16}{f.count:>14,}{f.each:>12,.0f}{_mega(f.total):>14}" for f in made.families]
    return [
        f"{'family':<16}{'count':>14}{'bytes each':>12}{'in all':>14}",
        *rows,
        f"{'in all':<42}{_mega(made.total):>14}",
        f"shards: {shards} set, {made.shards} suggested",
        f"at the peak {made.rows_a_second:,.0f} rows and {made.commits_a_second:,.0f} commits a second",
        "allow twice this where the store writes snapshots (copy on write), and 10 % for fragmentation",
    ]


def _mega(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
