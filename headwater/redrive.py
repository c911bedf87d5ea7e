"""Sends refused events again, as they came, to where they belong; workers count each once."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import Struct, field

from headwater.letters import Letter, Recent, Wanted, find_letters
from headwater.topic_reader import read_to_end
from state.clients import kafka_security
from state.events import SUBJECT_KINDS, subject_of
from state.outbox import FORWARDED_HEADER, REDRIVE_HEADER
from state.partition import shard_of
from state.retention import LETTERS_KEPT_MS
from state.settings import Settings
from state.topics import topic_name

_AT_ONCE = 500
LAST_WORD_COUNTS = ("items", "control")
"""Kinds of which a later record replaces an earlier one: an overtaken one must not come back."""

Place = tuple[str, int, bytes]
"""Topic kind, partition and key."""


class _Visitor(Struct):
    """As much of an event as says whose it is, whatever else is wrong with it."""

    user_id: str | None = None
    session_id: str | None = None


class Resent(Struct):
    """One record to send: where to, and with what."""

    kind: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Report(Struct):
    """What a re-drive did: letters sent by (reason, topic), and letters left out by why."""

    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


_visitor = msgspec.json.Decoder(_Visitor)


def resend(one: Letter, shards: int) -> Resent:
    """Return the record that gives a refused event its second chance.

    It goes to its subject's shard where the value says whose it is, else to where it came from: a catalogue
    item has to stay among the other records of its key, and outcomes and control belong to one partition.
    """
    letter = one.letter
    headers = [(REDRIVE_HEADER, letter.origin.encode())]
    # What shards say to each other is understood only when it is marked as passed on.
    if letter.forwarded and letter.reason != "misrouted":
        headers.append((FORWARDED_HEADER, b"1"))
    subject = _subject(letter.topic, one.raw())
    partition = letter.partition if subject is None else shard_of(subject, shards)
    return Resent(letter.topic, partition, one.key(), one.raw(), headers)


def _subject(kind: str, raw: bytes | None) -> str | None:
    if kind not in SUBJECT_KINDS:
        return None
    try:
        visitor = _visitor.decode(raw or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if kind == "users" or visitor.session_id is None:
        return visitor.user_id
    return subject_of(visitor.user_id, visitor.session_id)


def hindrance(one: Letter, now_ms: int, latest: Mapping[Place, int]) -> str:
    """Return why a letter cannot be re-driven; empty if it can.

    Parameters
    ----------
    one
        The letter.
    now_ms
        The present.
    latest
        Offset of the newest record of each key, for kinds of which the last word counts.
    """
    letter = one.letter
    if letter.cut_from:
        return "too large to be kept whole"
    if one.written_at < now_ms - LETTERS_KEPT_MS:
        return f"older than {LETTERS_KEPT_MS // 86_400_000} days"
    if latest.get((letter.topic, letter.partition, one.key() or b""), letter.offset) > letter.offset:
        return "overtaken by a later record of its key"
    return ""


async def redrive(settings: Settings, wanted: Wanted, report: Report, *, dry_run: bool) -> None:
    """Send every wanted letter's event again, counting into a report as they are acknowledged.

    Of an event that was refused again after a re-drive, only one letter is sent.
    """
    latest = await _latest(settings, wanted)
    origins, batch = Recent(), list[Letter]()
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", **kafka_security(settings))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(producer.stop)  # also where it cannot be started
        await producer.start()
        letters = await stack.enter_async_context(aclosing(find_letters(settings, wanted)))
        async for one in letters:
            why = hindrance(one, time.time_ns() // 1_000_000, latest)
            if why:
                report.left_out[why] += 1
            elif origins.is_new(one.letter.origin):
                batch.append(one)
            if len(batch) >= _AT_ONCE:
                await _send(None if dry_run else producer, settings, batch, report)
                batch = []
        await _send(None if dry_run else producer, settings, batch, report)


async def _send(
    producer: AIOKafkaProducer | None, settings: Settings, batch: list[Letter], report: Report
) -> None:
    if producer is not None:
        waiting = [await _send_one(producer, settings, resend(one, settings.shards)) for one in batch]
        await asyncio.gather(*waiting)
    report.sent.update((one.letter.reason, one.letter.topic) for one in batch)


async def _send_one(producer: AIOKafkaProducer, settings: Settings, record: Resent) -> Any:
    return await producer.send(
        topic_name(settings.namespace, record.kind),
        value=record.value,
        key=record.key,
        partition=record.partition,
        headers=record.headers,
    )


async def _latest(settings: Settings, wanted: Wanted) -> dict[Place, int]:
    """Return where the newest record stands of each key a wanted letter has."""
    latest: dict[Place, int] = {}
    starts: dict[str, dict[int, int]] = {}
    if wanted.topic and wanted.topic not in LAST_WORD_COUNTS:
        return latest
    async with aclosing(find_letters(settings, wanted)) as letters:
        async for one in letters:
            letter, key = one.letter, one.key()
            if letter.topic in LAST_WORD_COUNTS and key:
                latest[letter.topic, letter.partition, key] = letter.offset
                begin = starts.setdefault(letter.topic, {})
                begin[letter.partition] = min(letter.offset, begin.get(letter.partition, letter.offset))
    for kind, places in starts.items():
        async with aclosing(read_to_end(settings, kind, starts=places)) as records:
            async for record in records:
                if (kind, record.partition, record.key) in latest:
                    latest[kind, record.partition, record.key] = record.offset
    return latest
