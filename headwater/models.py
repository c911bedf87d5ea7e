"""``headwater models``: what click models are worth, and how they are compared, promoted and put back."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import click

from headwater.console import command_settings, finish

_surface = click.option("--surface", default="home", show_default=True, help="Which surface.")
_by = click.option("--by", "changed_by", default="command line", show_default=True, help="Who does it.")
_why = click.option("--why", default="", help="Why; kept in the history.")


@click.group()
def models() -> None:
    """Show click models, compare shadows with them, promote and roll back."""


@models.command("list")
def list_models() -> None:
    """One line for each surface and lane."""
    from headwater.models_read import shown
    from headwater.models_text import listed

    _end(shown(command_settings(), listed))


@models.command()
@_surface
def show(surface: str) -> None:
    """Measures, segments, shadows, versions and history of a surface's models."""
    from headwater.models_read import shown_one
    from headwater.models_text import described

    _end(shown_one(command_settings(), surface, described))


@models.command()
@_surface
@click.option("--into", type=click.Path(path_type=Path, dir_okay=False), help="File; printed otherwise.")
def card(surface: str, into: Path | None) -> None:
    """Write the model card of a surface from the facts of this moment, in Markdown."""
    from headwater.model_card import card_of
    from headwater.models_read import shown_one

    ok, lines = asyncio.run(shown_one(command_settings(), surface, card_of))
    if ok and into is not None:
        into.write_text("\n".join(lines) + "\n", encoding="utf-8")
        lines = [f"wrote {into}"]
    finish((ok, lines))


@models.command()
@click.argument("name")
@_surface
@click.option("--stop", is_flag=True, help="End the shadow instead.")
@click.option(
    "--kind", type=click.Choice(["linear", "fm"]), help="Logistic regression or factorisation machine."
)
@click.option("--learning-rate", type=click.FloatRange(0.0, 10.0, min_open=True))
@click.option("--l2", type=click.FloatRange(0.0, 1.0))
@click.option("--memory-rows", type=click.FloatRange(1_000.0, 1e9))
@click.option("--factors", type=click.IntRange(1, 32), help="Of a factorisation machine.")
@click.option("--latent-rate", type=click.FloatRange(0.0, 10.0, min_open=True), help="Of its factors.")
@click.option("--crosses", help="declared, none, or such as knn*trend_mid,content*affinity.")
@click.option("--hashed", help="The same for hashed crosses of categories and flags.")
@click.option("--begin", type=click.Choice(["champion", "prior"]), help="Where its weights come from.")
@_by
@_why
def shadow(name: str, surface: str, changed_by: str, why: str, **given: Any) -> None:
    """Let a model learn from live outcomes beside the champion, without serving."""
    document = {key: value for key, value in given.items() if value not in (None, False)}
    _follow("challenger", surface, {"shadow": name, **document}, (changed_by, why, False))


@models.command()
@click.argument("name")
@_surface
@click.option("--force", is_flag=True, help="Although it is not shown to be better; needs --why.")
@_by
@_why
def promote(name: str, surface: str, changed_by: str, why: str, *, force: bool) -> None:
    """Make a shadow the champion; refused while the interval of its advantage includes zero."""
    from headwater.models_control import promote_shadow

    _end(promote_shadow(command_settings(), surface, name, (changed_by, why, force)))


@models.command()
@click.argument("to")
@_surface
@_by
@_why
def rollback(to: str, surface: str, changed_by: str, why: str) -> None:
    """Make a kept version the champion again, by its number or name."""
    _follow("rollback", surface, {"to": to}, (changed_by, why, False))


@models.command()
@click.argument("label")
@_surface
@_by
@_why
def keep(label: str, surface: str, changed_by: str, why: str) -> None:
    """Keep the champion of now as a version with a name."""
    _follow("version", surface, {"label": label}, (changed_by, why, False))


@models.command()
@_surface
@click.option("--click", "click_", type=click.FloatRange(0.0, 1_000.0), help="Worth of a click.")
@click.option("--dwell", type=click.FloatRange(0.0, 1_000.0), help="Worth of a click that led to long dwell.")
@click.option("--purchase", type=click.FloatRange(0.0, 1_000.0), help="Worth of one that led to a purchase.")
@click.option("--promote", type=click.Choice(["manual", "automatic"]), help="Who decides on promotions.")
@_by
@_why
def weights(surface: str, click_: float | None, changed_by: str, why: str, **given: Any) -> None:
    """Show or set what a slot is worth on a surface; in force on every server within a second."""
    from headwater.explore import change_document
    from state.changing import Wish

    wished = {name: value for name, value in {"click": click_, **given}.items() if value is not None}
    wish = Wish(given=wished, changed_by=changed_by, why=why)
    _end(change_document(command_settings(), f"models/{surface}", wish))


def _follow(kind: str, surface: str, document: dict[str, Any], said: tuple[str, str, bool]) -> None:
    from headwater.models_control import direct

    _end(direct(command_settings(), (kind, surface), document, said))


def _end(work: Awaitable[tuple[bool, list[str]]]) -> None:
    async def done() -> tuple[bool, list[str]]:
        return await work

    finish(asyncio.run(done()))
