"""The raw events of one subject, read from the topics: Kafka keeps them for a time, the store never does."""

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from headwater.topic_reader import read_to_end
from state.erasure import subjects_named
from state.settings import Settings

KINDS = ("impressions", "clicks", "feedback", "users", "decisions", "outcomes", "deadletters")


class RawEvent(Struct):
    """One record of a topic; ``event`` is its value, as text where it is no JSON."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    event: Any


async def read_raw_events(settings: Settings, subjects: Collection[str]) -> list[RawEvent]:
    """Return every record about one of the subjects, up to the ends the topics have now.

    Raises
    ------
    TopicError
        If a topic is missing, or the broker sends nothing for half a minute.
    """
    found = []
    for kind in KINDS:
        async for record in read_to_end(settings, kind):
            if subjects_named(record.key, record.value).intersection(subjects):
                place = (record.topic, record.partition, record.offset, record.timestamp)
                found.append(RawEvent(*place, _readable(record.value)))
    return sorted(found, key=_when)


def _readable(value: bytes | None) -> Any:
    try:
        return msgspec.json.decode(value or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (value or b"").decode(errors="replace")


def _when(event: RawEvent) -> tuple[int, str, int, int]:
    return event.timestamp_ms, event.topic, event.partition, event.offset
