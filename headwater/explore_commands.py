"""``headwater explore``: show, turn, stop, look back and go back."""

import asyncio
from typing import Any

import click
import msgspec

from headwater.console import command_settings, finish
from headwater.explore import change_document, show_history
from headwater.explore_ledger import show_ledger
from serving.ledger import STATES
from state.changing import Wish, stop

SCHEMES = ["greedy", "epsilon", "softmax", "optimistic", "squarecb", "fallback"]
surface_option = click.option("--surface", default="home", show_default=True, help="Which surface.")
by_option = click.option(
    "--by", "changed_by", default="command line", show_default=True, help="Who changes it."
)
why_option = click.option("--why", default="", help="Why; kept with the version.")


@click.group(invoke_without_command=True)
@surface_option
@click.option("--rate", type=click.FloatRange(0.0, 0.5), help="Share of slots that explore.")
@click.option("--scheme", type=click.Choice(SCHEMES))
@click.option("--temperature", type=click.FloatRange(0.001, 10.0))
@click.option("--optimism", type=click.FloatRange(0.0, 5.0))
@click.option("--floor", type=click.FloatRange(0.0, 0.01), help="Least propensity of an eligible candidate.")
@click.option("--ttl", "ttl_s", type=click.FloatRange(1.0), help="Seconds until the version before returns.")
@click.option("--set", "more", metavar="JSON", help="Further settings, such as segments, quota, guardrails.")
@click.option("--force", "forced", is_flag=True, help="Set the bounds of steps aside; needs --why.")
@by_option
@why_option
@click.pass_context
def explore(context: click.Context, /, **given: Any) -> None:
    """Show or turn the exploration of a surface, on every running server at once."""
    if context.invoked_subcommand is not None:
        return
    surface, changed_by, why, forced = (
        given.pop(name) for name in ("surface", "changed_by", "why", "forced")
    )
    wished = _document(given.pop("more")) | {
        name: value for name, value in given.items() if value is not None
    }
    wish = Wish(given=wished, changed_by=changed_by, why=why, forced=forced)
    finish(asyncio.run(change_document(command_settings(), f"exploration/{surface}", wish)))


def _document(text: str | None) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise click.ClickException(
            f"option --set has value {text!r}; wished: a JSON object ({error})"
        ) from None


@explore.command("stop")
@surface_option
@click.option("--scheme", type=click.Choice(["greedy", "fallback"]), default="greedy", show_default=True,
              help="greedy: the best-scored slate; fallback: the trend, without any model.")  # fmt: skip
@by_option
@why_option
def stop_command(surface: str, scheme: str, changed_by: str, why: str) -> None:
    """Kill switch: nothing on the surface explores within a second."""
    finish(
        asyncio.run(
            change_document(command_settings(), f"exploration/{surface}", stop(scheme, changed_by, why))
        )
    )


@explore.command("rollback")
@surface_option
@click.argument("version", type=click.IntRange(0))
@by_option
@why_option
def rollback_command(surface: str, version: int, changed_by: str, why: str) -> None:
    """Bring the settings of an earlier VERSION back, as a new one; 0 is the default."""
    wish = Wish(restores=version, changed_by=changed_by, why=why)
    finish(asyncio.run(change_document(command_settings(), f"exploration/{surface}", wish)))


@explore.command("ledger")
@surface_option
@click.option("--state", type=click.Choice(STATES), help="Only items in this state.")
@click.option("--limit", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Items shown.")
def ledger_command(surface: str, state: str | None, limit: int) -> None:
    """Show what each new item has had, what it is owed, and what exploration cost."""
    finish(asyncio.run(show_ledger(command_settings(), surface, state, limit)))


@explore.command("history")
@surface_option
def history_command(surface: str) -> None:
    """Show who changed the exploration of a surface, when and why."""
    finish(asyncio.run(show_history(command_settings(), f"exploration/{surface}")))


@explore.command("budget")
@click.option("--per-hour", "cost", type=click.FloatRange(0.0), help="Rewards exploration may cost.")
@click.option("--none", "no_bound", is_flag=True, help="Take the bound away.")
@by_option
@why_option
def budget_command(cost: float | None, no_bound: bool, changed_by: str, why: str) -> None:
    """Show or set what exploration may cost on all surfaces together."""
    if no_bound and cost is not None:
        raise click.UsageError("--none and --per-hour contradict each other; wished: one of them")
    given = {"cost_per_hour": cost} if no_bound or cost is not None else {}
    wish = Wish(given=given, changed_by=changed_by, why=why)
    finish(asyncio.run(change_document(command_settings(), "budget/all", wish)))
