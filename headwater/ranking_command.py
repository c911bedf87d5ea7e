"""``headwater ranking``: how the slates of a surface are put together."""

import asyncio

import click

from headwater.console import command_settings, finish
from headwater.explore import change_document
from headwater.explore_commands import by_option, surface_option, why_option
from state.changing import Wish
from state.ranking import SEEN_MAX_AGE_S


@click.command()
@surface_option
@click.option("--category-cap", type=click.IntRange(0, 50), help="Slots a category may have; 0 for no cap.")
@click.option(
    "--diversity", type=click.FloatRange(0.0, 20.0), help="Logits that full likeness to an item placed costs."
)
@click.option("--freshness", type=click.FloatRange(0.0, 10.0), help="Logits a new item gets on top.")
@click.option(
    "--freshness-half-life",
    "freshness_half_life_s",
    type=click.FloatRange(60.0, 31_536_000.0),
    help="Seconds.",
)
@click.option(
    "--no-repeat",
    "no_repeat_s",
    type=click.FloatRange(0.0, SEEN_MAX_AGE_S),
    help="Seconds an item is not shown again to who interacted with it.",
)
@by_option
@why_option
def ranking(surface: str, changed_by: str, why: str, **given: float | None) -> None:
    """Show or change variety, repetition and freshness of a surface's slates, on every server at once."""
    wished = {name: value for name, value in given.items() if value is not None}
    wish = Wish(given=wished, changed_by=changed_by, why=why)
    finish(asyncio.run(change_document(command_settings(), f"ranking/{surface}", wish)))
