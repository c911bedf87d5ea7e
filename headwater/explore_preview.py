"""``headwater explore preview | shadow | scoreboard | promote``: what would be, before it is."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import click
import msgspec
from msgspec import Struct
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from headwater.console import command_settings, finish
from headwater.explore import change_document
from headwater.explore_commands import SCHEMES, by_option, explore, surface_option, why_option
from serving.preview import Interval, NewItems, Preview, PreviewReader, SegmentPreview
from serving.scoreboard import Promotion, ScoreboardAnswer, ScoreboardReader, ShadowScore, promotion_wish
from state.changing import Wish
from state.clients import redis_client
from state.control_reads import read_current
from state.decoding import Refusal
from state.exploration import Shadow, Shadows, settings_of
from state.keys import item_unit, items_key, unit_prefix
from state.settings import Settings

_WIDTH = 140
T = TypeVar("T")


class Dated(Struct):
    """What of a catalogue item tells whether it is new."""

    published_at: int | None = None
    available: bool = True


_dated = msgspec.json.Decoder(Dated)


@explore.command("preview")
@surface_option
@click.option(
    "--rate", type=click.FloatRange(0.0, 0.5), required=True, help="Share of slots that would explore."
)
@click.option("--hours", type=click.FloatRange(0.01, 168.0), default=24.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Everything, as the API answers it.")
def preview_command(surface: str, rate: float, hours: float, *, as_json: bool) -> None:
    """Tell what another rate would earn, from the last hours; exits with 1 where nobody can tell."""
    settings = command_settings()
    told = _read(
        settings,
        lambda redis: PreviewReader(settings, redis, partial(count_new, redis, settings)).read(
            surface, rate, hours
        ),
    )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        Console(width=_WIDTH).print(preview_table(told))
        click.echo(told.verdict)
        if told.new_items is not None:
            click.echo(new_items_words(told.new_items))
    raise SystemExit(0 if told.is_decidable else 1)


def preview_table(told: Preview) -> Table:
    """Return a preview as a table, one row a segment and one for all."""
    made = Table("segment", "share", "decisions", "explored", "rate", "reward now", "reward then", "change")
    made.title, made.title_justify = f"{told.surface}, the last {told.hours:g} hours", "left"
    for part in told.segments:
        made.add_row(part.segment or "(no segment)", *_cells(part))
    made.add_row("all", *_cells(told.overall))
    return made


def new_items_words(told: NewItems) -> str:
    """Return what becomes of new items in one line."""
    return (
        f"of {told.items:,} new items, {told.reaching:.0f} would be shown {told.quota} times within "
        f"{told.hours:g} hours, {told.reaching_now:.0f} at the rate in force "
        f"({told.impressions:.1f} and {told.impressions_now:.1f} impressions each)"
    )


async def count_new(redis: Any, settings: Settings, since_ms: int) -> int:
    """Return how many available items of the catalogue were published at or after a time, ms."""
    found = 0
    for shard in range(settings.item_shards):
        key = items_key(unit_prefix(settings.namespace, item_unit(shard)))
        async for _, raw in redis.hscan_iter(key, count=1000):
            item = _dated.decode(raw)
            found += item.available and (item.published_at or 0) >= since_ms
    return found


def _cells(part: SegmentPreview) -> list[str]:
    sizes = [f"{part.share:.0%}", f"{part.decisions:,}", f"{part.explored:,}"]
    rates = f"{part.rate_now:g} -> {part.rate:g}"
    values = [_interval(one) for one in (part.reward_now, part.reward, part.change)]
    return [*sizes, rates, *values] if part.change is not None else [*sizes, rates, "", "", "cannot be told"]


def _interval(one: Interval | None) -> str:
    return "" if one is None else f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"


@explore.command("shadow")
@surface_option
@click.argument("name")
@click.option("--scheme", type=click.Choice(SCHEMES[:-1]), default="epsilon", show_default=True)
@click.option("--rate", type=click.FloatRange(0.0, 0.5), default=0.05, show_default=True)
@click.option("--temperature", type=click.FloatRange(0.001, 10.0), default=0.05, show_default=True)
@click.option("--optimism", type=click.FloatRange(0.0, 5.0), default=0.3, show_default=True)
@click.option(
    "--ranks-by", type=click.Choice(["policy", "click", "trend"]), default="policy", show_default=True
)
@click.option("--remove", is_flag=True, help="Watch it no longer.")
@by_option
@why_option
def shadow_command(surface: str, name: str, *, remove: bool, changed_by: str, why: str, **law: Any) -> None:
    """Declare the shadow policy NAME: it is judged on what others show, and shows nothing itself."""
    finish(
        asyncio.run(_declare(command_settings(), surface, (name, None if remove else law), (changed_by, why)))
    )


async def _declare(
    settings: Settings, surface: str, wished: tuple[str, dict[str, Any] | None], said: tuple[str, str]
) -> tuple[bool, list[str]]:
    redis = redis_client(settings, timeout_s=5.0)
    try:
        current = await read_current(redis, settings, f"shadows/{surface}")
    except (RedisError, OSError, TimeoutError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()
    assert isinstance(current, Shadows)
    name, law = wished
    policies = dict(settings_of(current)["policies"])
    if law is None and name not in policies:
        watched = ", ".join(sorted(policies)) or "nobody"
        return False, [f"{surface} is not watched by {name!r}: nothing changed; watched by: {watched}"]
    if law is None:
        policies.pop(name)
    else:
        policies[name] = law
    wish = Wish(given={"policies": policies}, changed_by=said[0], why=said[1])
    return await change_document(settings, f"shadows/{surface}", wish)


@explore.command("scoreboard")
@surface_option
@click.option("--json", "as_json", is_flag=True, help="Everything, as GET /v1/scoreboard answers it.")
def scoreboard_command(surface: str, *, as_json: bool) -> None:
    """Show shadow policies beside the one in force; safe to look at at any time."""
    settings = command_settings()
    board = _read(settings, lambda redis: ScoreboardReader(settings, redis).read(surface))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(board)).decode())
        return
    if not board.shadows:
        click.echo(f"{surface}: no shadow policy is declared; `headwater explore shadow` declares one")
        return
    Console(width=_WIDTH).print(scoreboard_table(board))


def scoreboard_table(board: ScoreboardAnswer) -> Table:
    """Return a scoreboard as a table, one row a shadow."""
    made = Table("shadow", "policy", "decisions", "in force", "shadow", "more", "verdict")
    made.title, made.title_justify = f"{board.surface}, beside version {board.version}", "left"
    for one in board.shadows:
        values = [_interval(value) for value in (one.live, one.reward, one.lift)]
        made.add_row(one.shadow, law_words(one.policy), f"{one.decisions:,}", *values, _verdict(one))
    return made


def law_words(policy: Shadow) -> str:
    """Return a shadow's law in a few words."""
    rate = "" if policy.scheme == "greedy" else f" {policy.rate:g}"
    return f"{policy.scheme}{rate}" + ("" if policy.ranks_by == "policy" else f" by {policy.ranks_by}")


def _verdict(one: ShadowScore) -> str:
    if one.reasons:
        return "; ".join(one.reasons)
    return "better: may be promoted" if one.is_better else "intervals overlap: keep watching"


@explore.command("promote")
@surface_option
@click.argument("shadow")
@click.option("--force", "forced", is_flag=True, help="Although its interval is not above; needs --why.")
@by_option
@why_option
def promote_command(surface: str, shadow: str, *, forced: bool, changed_by: str, why: str) -> None:
    """Make SHADOW the policy in force; refused while its interval overlaps that of the one in force."""
    settings = command_settings()
    board = _read(settings, lambda redis: ScoreboardReader(settings, redis).read(surface))
    try:
        wish = promotion_wish(board, Promotion(shadow, changed_by, why, forced))
    except Refusal as refusal:
        raise click.ClickException(str(refusal)) from None
    finish(asyncio.run(change_document(settings, f"exploration/{surface}", wish)))


def _read(settings: Settings, reading: Callable[[Any], Awaitable[T]]) -> T:
    try:
        return asyncio.run(_with_store(settings, reading))
    except (RedisError, OSError, TimeoutError) as error:
        raise click.ClickException(f"cannot reach the store: {error}") from None


async def _with_store(settings: Settings, reading: Callable[[Any], Awaitable[T]]) -> T:
    redis = redis_client(settings, timeout_s=5.0)
    try:
        return await reading(redis)
    finally:
        await redis.aclose()
