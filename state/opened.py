"""What a shard keeps of a decision while its attribution window is open."""

import msgspec
from msgspec import Struct, field


class OpenDecision(Struct, array_like=True):
    """What is known of a decision whose window has not closed.

    Attributes
    ----------
    subject
        Whose decision it is.
    first_at
        Event time of the first event that named it, ms.
    decided
        Whether the decision itself has arrived.
    shown_at
        Event time of its impression, ms; 0 while none has arrived.
    shown
        Items the impression listed.
    rewards
        Item -> (reward, event time) pairs, earliest first, each larger than those before it: of an item the
        largest reward inside the window counts, and the window is not known before the impression.
    """

    subject: str
    first_at: int
    decided: bool = False
    shown_at: int = 0
    shown: list[str] = field(default_factory=list)
    rewards: dict[str, list[tuple[float, int]]] = field(default_factory=dict)


_decoder = msgspec.msgpack.Decoder(OpenDecision)


def decode_open(raw: bytes) -> OpenDecision:
    """Return a stored open decision."""
    return _decoder.decode(raw)
