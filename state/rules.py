"""What rewards are worth on each surface: the rules a decision closes by."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

EVERY_SURFACE = "*"
SurfaceKey = Annotated[str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9_.-]{0,63})$")]


class SurfaceRules(Struct, frozen=True, forbid_unknown_fields=True):
    """How one surface turns rewards into the worth of a shown slot, always 0 to 1.

    Attributes
    ----------
    rewards
        What counts of several rewards of one item: the ``first``, the largest (``max``), or their ``sum``.
    cap
        With ``sum``, and only there: the sum that is worth 1; more is worth no more.
    default_reward
        What a shown slot without any reward is worth.
    learn_unseen
        Whether a decision without impression counts as shown when it was made.
    """

    rewards: Literal["first", "max", "sum"] = "max"
    cap: Annotated[float, Meta(gt=0.0, le=1000.0)] | None = None
    default_reward: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    learn_unseen: bool = False

    def __post_init__(self) -> None:
        """Refuse a cap without a sum, and a sum without a cap."""
        if (self.rewards == "sum") != (self.cap is not None):
            wished = "a number above 0" if self.rewards == "sum" else "no cap"
            raise ValueError(
                f"field 'cap' has value {self.cap}; with rewards {self.rewards!r} wished: {wished}"
            )


class HeadRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Which feedback says that a click has led to what a head of the click model asks for.

    Attributes
    ----------
    kinds
        Kinds of feedback; they need not be worth any reward.
    at_least
        Where set, only feedback of such a value counts.
    """

    kinds: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    at_least: float | None = None

    def counts(self, kind: str, value: float | None) -> bool:
        """Return whether feedback earns the head."""
        return kind in self.kinds and (self.at_least is None or (value or 0.0) >= self.at_least)


_DEFAULT = SurfaceRules()


def rules_of(rules: Mapping[str, SurfaceRules], surface: str) -> SurfaceRules:
    """Return a surface's rules: its own, else those of ``*``, else the defaults."""
    return rules.get(surface) or rules.get(EVERY_SURFACE) or _DEFAULT
