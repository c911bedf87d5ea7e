"""Messages a unit derives from its events, kept in its outbox until Kafka has acknowledged them."""

import msgspec
from msgspec import Struct

SOURCE_HEADER = "hw-source"
NUMBER_HEADER = "hw-number"
FORWARDED_HEADER = "hw-forwarded"


class Message(Struct, array_like=True):
    """One message to send.

    Attributes
    ----------
    number
        Running number within the unit; consumers drop what is not above the highest they saw.
    kind
        Topic kind.
    partition
        Where it goes; None lets the key decide.
    key, value
        As sent.
    forwarded
        Whether this is an event passed on to the shard that owns it.
    """

    number: int
    kind: str
    key: bytes | None
    value: bytes
    partition: int | None = None
    forwarded: bool = False

    def headers(self, unit: str) -> list[tuple[str, bytes]]:
        """Return the Kafka headers that make the message's effect happen once."""
        marks = [(SOURCE_HEADER, unit.encode()), (NUMBER_HEADER, str(self.number).encode())]
        return [*marks, (FORWARDED_HEADER, b"1")] if self.forwarded else marks


_decoder = msgspec.msgpack.Decoder(Message)
encode_message = msgspec.msgpack.Encoder().encode


def decode_message(raw: bytes) -> Message:
    """Return the message an outbox entry holds."""
    return _decoder.decode(raw)
