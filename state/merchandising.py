"""What people want of a surface's slates whatever the models say: the document ``rules/SURFACE``."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from state.decoding import Refusal
from state.events import EpochMs, Id, Name
from state.filters import LENGTH, parse_filter
from state.versioned import Versioned

MOST_RULES, MOST_HIDING, MOST_PINS = 50, 26, 10
"""Rules of a surface, those of them that hide, and those that pin."""
Expression = Annotated[str, Meta(min_length=1, max_length=LENGTH)]
Factor = Annotated[float, Meta(ge=1.0, le=100.0)]
Place = Annotated[int, Meta(ge=0, le=49)]


class Rule(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule.

    Attributes
    ----------
    action
        ``boost`` or ``bury`` multiplies or divides the odds of a click an item is ranked by, by ``factor``;
        ``hide`` shows it to nobody; ``pin`` puts ``item_id`` at ``position``.
    where
        Which items, as an expression over their attributes; not of a pin.
    factor
        Of a boost or bury, 1 to 100.
    item_id, position
        Of a pin; positions count from 0.
    starts_at, ends_at
        When it holds, ms since 1970; from now on and for ever where they are left out.
    """

    action: Literal["boost", "bury", "pin", "hide"]
    where: Expression | None = None
    factor: Factor | None = None
    item_id: Id | None = None
    position: Place | None = None
    starts_at: EpochMs | None = None
    ends_at: EpochMs | None = None

    def holds_at(self, now_ms: int) -> bool:
        """Return whether the rule holds at a time."""
        has_begun = self.starts_at is None or now_ms >= self.starts_at
        return has_begun and (self.ends_at is None or now_ms < self.ends_at)


class Merchandising(Versioned, kw_only=True, forbid_unknown_fields=True):
    """The rules of one surface by name, ``rules/home`` for example."""

    rules: Annotated[dict[Name, Rule], Meta(max_length=MOST_RULES)] = field(default_factory=dict)


_WISHED = {
    "boost": ("where", "factor"),
    "bury": ("where", "factor"),
    "hide": ("where",),
    "pin": ("item_id", "position"),
}


def check_rules(rules: Mapping[str, Rule]) -> None:
    """Refuse rules that say too little, too much or nonsense.

    Raises
    ------
    Refusal
        Naming the rule and the field.
    """
    for name, rule in rules.items():
        _check(f"rules.{name}", rule)
    for action, most in (("hide", MOST_HIDING), ("pin", MOST_PINS)):
        count = sum(rule.action == action for rule in rules.values())
        if count > most:
            raise Refusal("bad_document", "rules", f"{count} rules that {action}", f"at most {most} of them")


def _check(path: str, rule: Rule) -> None:
    for name in ("where", "factor", "item_id", "position"):
        value, is_wished = getattr(rule, name), name in _WISHED[rule.action]
        if (value is not None) != is_wished:
            wished = f"a value: a rule that does {rule.action} needs one" if is_wished else "nothing"
            raise Refusal("bad_document", f"{path}.{name}", value, wished)
    if rule.where is not None:
        try:
            parse_filter(rule.where)
        except Refusal as refusal:
            raise Refusal("bad_filter", f"{path}.where", rule.where, refusal.wished) from None
    if rule.starts_at is not None and rule.ends_at is not None and rule.ends_at <= rule.starts_at:
        raise Refusal("bad_document", f"{path}.ends_at", rule.ends_at, f"more than {rule.starts_at}")
