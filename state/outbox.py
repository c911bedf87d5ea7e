"""Messages a unit derives from its events, kept in its outbox until Kafka has acknowledged them."""

from collections.abc import Sequence
from itertools import islice, takewhile

import msgspec
from msgspec import Struct

from state.producers import PRODUCER_HEADER

SOURCE_HEADER = "hw-source"
NUMBER_HEADER = "hw-number"
FORWARDED_HEADER = "hw-forwarded"
REDRIVE_HEADER = "hw-redrive"
IMPORT_HEADER = "hw-import"
SENT_AT_ONCE = 1000
"""Messages of one unit under way at a time: none of the next is sent before all of these are acknowledged."""
_WINDOW = 1024


class Message(Struct, array_like=True):
    """One message to send.

    Attributes
    ----------
    number
        Running number within the unit; consumers take each once (`Arrivals`).
    kind
        Topic kind.
    partition
        Where it goes; None lets the key decide.
    key, value
        As sent.
    forwarded
        Whether this is an event passed on to the shard that owns it.
    redrive
        Dead letter it was re-driven from, if any.
    producer
        Who published an event that is passed on.
    """

    number: int
    kind: str
    key: bytes | None
    value: bytes
    partition: int | None = None
    forwarded: bool = False
    redrive: str = ""
    producer: str = ""

    def headers(self, unit: str) -> list[tuple[str, bytes]]:
        """Return the Kafka headers that make the message's effect happen once."""
        marks = [(SOURCE_HEADER, unit.encode()), (NUMBER_HEADER, str(self.number).encode())]
        if self.forwarded:
            marks.append((FORWARDED_HEADER, b"1"))
        if self.redrive:
            marks.append((REDRIVE_HEADER, self.redrive.encode()))
        if self.producer:
            marks.append((PRODUCER_HEADER, self.producer.encode()))
        return marks


class Arrivals:
    """Which messages of one unit's outbox have arrived, whatever was sent twice or in another order.

    A batch may fail while a later one arrives, and is then sent again. As at most `SENT_AT_ONCE` messages are
    under way, it is enough to know which of the latest numbers have arrived; all older ones have.

    Parameters
    ----------
    stored
        What `encode` returned; empty for none.
    """

    def __init__(self, stored: str = "") -> None:
        highest, _, bits = stored.partition(":")
        self.highest, self._bits = int(highest or 0), int(bits or "0", 16)

    def is_new(self, number: int) -> bool:
        """Note a number; returns whether it arrived for the first time."""
        ahead = number - self.highest
        if number <= 0 or ahead <= -_WINDOW or (ahead <= 0 and self._bits >> -ahead & 1):
            return False
        if ahead > 0:
            self.highest = number
            self._bits = 1 if ahead >= _WINDOW else (self._bits << ahead | 1) & ((1 << _WINDOW) - 1)
        else:
            self._bits |= 1 << -ahead
        return True

    def encode(self) -> str:
        """Return what has arrived, as the highest number and the bits of those before it."""
        return f"{self.highest}:{self._bits:x}"


def next_batch(unsent: Sequence[Message]) -> list[Message]:
    """Return the messages to send next, in order: at most `SENT_AT_ONCE`, with numbers as near each other.

    Numbers jump when a unit is claimed. What was derived before has to have arrived before what comes after
    is sent, as consumers take all numbers far behind the highest for arrived.
    """
    near = takewhile(lambda message: message.number - unsent[0].number < SENT_AT_ONCE, unsent)
    return list(islice(near, SENT_AT_ONCE))


_decoder = msgspec.msgpack.Decoder(Message)
encode_message = msgspec.msgpack.Encoder().encode


def decode_message(raw: bytes) -> Message:
    """Return the message an outbox entry holds."""
    return _decoder.decode(raw)
