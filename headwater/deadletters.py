"""``headwater deadletters``: what was refused, why, and how it gets its second chance."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from headwater.console import checked_secret, command_settings, finish
from headwater.letters import KINDS, Letter, Summary, Wanted, find_one, summarize
from headwater.redrive import Report, redrive
from state.topics import TopicError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")


class Since(click.ParamType):
    """A point of time, ms: ISO 8601 (UTC unless it says otherwise), or a duration before now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the point of time."""
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(value)
        if match:
            return max(0, int((time.time() - int(match[1]) * _UNITS_S[match[2]]) * 1000))
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is neither a duration like 90s, 30m, 2h or 7d nor an ISO 8601 time", param, ctx
            )
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


_reason = click.option("--reason", default="", help="Only this reason, such as unknown_feedback.")
_since = click.option("--since", type=Since(), default=0, help="Refused since: 2h, 7d, or an ISO 8601 time.")
_topic = click.option("--topic", type=click.Choice(KINDS), help="Only events of this kind.")


@click.group()
def deadletters() -> None:
    """List, show and re-drive events that were refused."""


@deadletters.command("list")
@_reason
@_since
@_topic
@click.option("--limit", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Letters shown.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_(reason: str, since: int, topic: str | None, limit: int, *, as_json: bool) -> None:
    """Count letters by reason and topic, and list the newest."""
    wanted = Wanted(reason, since, topic or "")
    summary = _run(summarize(checked_secret(command_settings()), wanted, limit))
    finish((True, [_as_json(summary)] if as_json else _as_lines(summary)))


@deadletters.command()
@click.argument("letter_id", metavar="ID")
def show(letter_id: str) -> None:
    """Show everything of one letter."""
    letter = _run(find_one(checked_secret(command_settings()), letter_id))
    if letter is None:
        raise click.ClickException(f"no dead letter has the id {letter_id!r}: headwater deadletters list")
    finish((True, describe(letter)))


@deadletters.command("redrive")
@_reason
@_since
@_topic
@click.option("--id", "ids", multiple=True, help="Only this letter; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
def redrive_(reason: str, since: int, topic: str | None, ids: tuple[str, ...], *, dry_run: bool) -> None:
    """Send refused events again, after what refused them was put right.

    Each counts once, however often it is sent; one that is refused again becomes a new letter.
    """
    if not ids and not (reason and since):
        raise click.UsageError("which letters? give --reason and --since, or --id")
    wanted, report = Wanted(reason, since, topic or "", frozenset(ids)), Report()
    try:
        _run(redrive(checked_secret(command_settings()), wanted, report, dry_run=dry_run))
    except click.ClickException as error:
        again = f"; {report.sent.total()} events were sent, and sending them again changes nothing"
        raise click.ClickException(error.message + again) from None
    finish((True, report_lines(report, "would be sent" if dry_run else "sent")))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except RedisError as error:
        raise click.ClickException(f"cannot read the erasure list: {error or repr(error)}") from None
    except (KafkaError, TopicError, OSError) as error:
        raise click.ClickException(f"cannot read or write the broker: {error or repr(error)}") from None


def report_lines(report: Report, verb: str) -> list[str]:
    """Return what a re-drive did as lines to print."""
    lines = [f"{report.sent.total()} events {verb}", *_counted(report.sent)]
    return [*lines, *(f"{number} left out: {why}" for why, number in sorted(report.left_out.items()))]


def describe(one: Letter) -> list[str]:
    """Return everything of a letter as lines to print."""
    letter, raw, key = one.letter, one.raw(), one.key()
    told = {
        "id": letter.event_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "received": _time(letter.occurred_at),
        "refused": _time(one.written_at),
        "first letter": letter.origin if letter.redrive else "this one",
        "forwarded": "by another shard" if letter.forwarded else "no",
        "key": "none" if key is None else _shown(key),
        "value": "none" if raw is None else f"{letter.cut_from or len(raw)} bytes",
    }
    width = max(map(len, told)) + 2
    lines = [f"{name:<{width}}{_printable(str(value))}" for name, value in told.items()]
    if letter.cut_from:
        lines.append(f"{'':<{width}}of which the first {len(raw or b'')} are kept; the topic has all of them")
    return [*lines, *([] if raw is None else ["", _shown(raw)])]


def _as_lines(summary: Summary) -> list[str]:
    lines = [f"{summary.counts.total()} dead letters", *_counted(summary.counts)]
    return [*lines, *([""] if summary.newest else []), *map(_line, summary.newest)]


def _counted(counts: Counter[tuple[str, str]]) -> list[str]:
    return [f"{number:>9}  {reason}  {topic}" for (reason, topic), number in counts.most_common()]


def _line(one: Letter) -> str:
    letter = one.letter
    return _printable(f"{_time(one.written_at)}  {letter.event_id}  {letter.detail}")


def _as_json(summary: Summary) -> str:
    counts = [
        {"reason": reason, "topic": topic, "letters": n}
        for (reason, topic), n in summary.counts.most_common()
    ]
    letters = [{"written_at": one.written_at, **msgspec.to_builtins(one.letter)} for one in summary.newest]
    return msgspec.json.encode({"counts": counts, "letters": letters}).decode()


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _shown(raw: bytes) -> str:
    """Return bytes as text where they are text, else in hexadecimal, so that no terminal obeys them."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.hex(" ", -4)
    is_text = all(sign.isprintable() or sign in "\n\t" for sign in text)
    return text if is_text else raw.hex(" ", -4)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
