"""What a shard keeps of a decision while its attribution window is open."""

import msgspec
from msgspec import Struct, field


class Reward(Struct, array_like=True, frozen=True):
    """One reward: what it is worth, 0 to 1, its event time (ms), and the surface it named, if any."""

    worth: float
    at_ms: int
    surface: str = ""


class OpenDecision(Struct, array_like=True):
    """What is known of a decision whose window has not closed.

    Attributes
    ----------
    subject
        Whose decision it is.
    first_at
        Earliest event time of the events that name it, ms.
    decided
        Whether the decision itself has arrived.
    shown_at
        Event time of its earliest impression, ms; 0 while none has arrived.
    shown
        Items that impression listed.
    rewards
        Item -> its rewards, earliest first; the window is not known before the impression.
    surface
        The decision's.
    shown_on
        The impression's.
    again
        Further impressions: event time and surface, earliest first.
    labels
        Item -> head -> event time, ms, of the first feedback that earned it.
    """

    subject: str
    first_at: int
    decided: bool = False
    shown_at: int = 0
    shown: list[str] = field(default_factory=list)
    rewards: dict[str, list[Reward]] = field(default_factory=dict)
    surface: str = ""
    shown_on: str = ""
    again: list[tuple[int, str]] = field(default_factory=list)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


_decoder = msgspec.msgpack.Decoder(OpenDecision)
encode_open = msgspec.msgpack.Encoder().encode


def decode_open(raw: bytes) -> OpenDecision:
    """Return a stored open decision."""
    return _decoder.decode(raw)
