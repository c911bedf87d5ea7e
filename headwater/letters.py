"""Dead letters as the topic holds them: found, told apart, counted."""

import base64
import heapq
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct, field

from headwater.topic_reader import read_to_end
from state.clients import redis_client
from state.erasure import read_erasures
from state.events import EVENT_TYPES, DeadLetter
from state.settings import Settings

KINDS = tuple(kind for kind in EVENT_TYPES if kind != "deadletters")
"""Topic kinds letters come from."""
_REMEMBERED = 200_000

_decoder = msgspec.json.Decoder(DeadLetter)


class Letter(Struct):
    """One dead letter and when it was written, ms."""

    letter: DeadLetter
    written_at: int

    def raw(self) -> bytes | None:
        """Return the refused record's value; None where it was null."""
        raw = base64.b64decode(self.letter.raw)
        # No value and an empty one look alike here; only the empty one is refused as malformed.
        return raw if raw or self.letter.reason == "malformed_json" else None

    def key(self) -> bytes | None:
        """Return the refused record's key."""
        return None if self.letter.key is None else base64.b64decode(self.letter.key)


class Wanted(Struct, frozen=True):
    """Which letters a command is about; what is empty or 0 does not narrow them down."""

    reason: str = ""
    since_ms: int = 0
    topic: str = ""
    ids: frozenset[str] = frozenset()

    def includes(self, one: Letter) -> bool:
        """Return whether a letter is meant."""
        letter = one.letter
        return (
            self.reason in ("", letter.reason)
            and self.topic in ("", letter.topic)
            and one.written_at >= self.since_ms
            and (not self.ids or letter.event_id in self.ids)
        )


class Recent:
    """Remembers the latest names it was asked about, so many of them.

    Parameters
    ----------
    most
        How many.
    """

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def is_new(self, name: str) -> bool:
        """Note a name; returns whether it is none of the latest."""
        if name in self._names:
            self._names.move_to_end(name)
            return False
        self._names[name] = None
        if len(self._names) > self._most:
            self._names.popitem(last=False)
        return True


def read_letter(raw: bytes | None, written_at: int) -> Letter | None:
    """Return the letter a record holds; None for what is no dead letter of ours."""
    try:
        letter = Letter(_decoder.decode(raw or b""), written_at)
        letter.raw(), letter.key()
    except (msgspec.DecodeError, ValueError):
        return None
    return letter if letter.letter.topic in KINDS else None


async def find_letters(settings: Settings, wanted: Wanted) -> AsyncGenerator[Letter, None]:
    """Yield the wanted letters of the topic, each once as long as its copies are not far apart.

    An outbox entry may be sent twice after a crash; both copies carry the letter's id. Letters of subjects
    that were erased since stay in the topic until retention takes them, and are never shown or sent again.
    """
    seen = Recent()
    async with redis_client(settings, timeout_s=10.0) as redis:
        erasures = await read_erasures(redis, settings)
    async with aclosing(read_to_end(settings, "deadletters", since_ms=wanted.since_ms)) as records:
        async for record in records:
            letter = read_letter(record.value, record.timestamp)
            if letter is None or not wanted.includes(letter) or erasures.hides(letter.letter):
                continue
            if seen.is_new(letter.letter.event_id):
                yield letter


class Summary(Struct):
    """What a topic holds: counts by (reason, topic), and the newest letters, newest first."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    newest: list[Letter] = field(default_factory=list)


async def summarize(settings: Settings, wanted: Wanted, limit: int) -> Summary:
    """Return counts of the wanted letters and the newest of them."""
    summary, newest = Summary(), list[tuple[int, int, Letter]]()
    async with aclosing(find_letters(settings, wanted)) as letters:
        async for one in letters:
            summary.counts[one.letter.reason, one.letter.topic] += 1
            heapq.heappush(newest, (one.written_at, summary.counts.total(), one))
            if len(newest) > limit:
                heapq.heappop(newest)
    summary.newest = [one for _, _, one in sorted(newest, key=lambda entry: entry[:2], reverse=True)]
    return summary


async def find_one(settings: Settings, letter_id: str) -> Letter | None:
    """Return the letter of an id, as early as it is found."""
    async with aclosing(find_letters(settings, Wanted(ids=frozenset({letter_id})))) as letters:
        async for one in letters:
            return one
    return None
