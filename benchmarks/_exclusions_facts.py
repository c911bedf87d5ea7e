"""What must not appear, by the word of those who made it so: facts with their times, and checks of answers.

Nothing here is code of the server's: expressions, catalogue and visitors are kept once more, as plain Python.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field


class Spell(Struct):
    """What an item was like: from a time at which it was surely known, until the next change was begun.

    Attributes
    ----------
    is_out
        Whether it was removed or not available.
    price
        Its price.
    begun_at, known_at
        When the change was sent, and from when it was seen to be in force, ms.
    until
        When the next change was sent, ms.
    """

    is_out: bool
    price: float
    begun_at: int
    known_at: int = 2**62
    until: int = 2**62


class Asked(Struct):
    """One request and what it was answered with.

    Attributes
    ----------
    server, user
        Which server was asked, and for whom.
    sent_at, answered_at, as_of
        When, ms, and up to when the server says that its state goes.
    barred
        What the request itself keeps out: excluded, seeds, earlier pages.
    knows_visitor
        Whether the answer says that it knows what the visitor has hidden and seen.
    most
        Price that the request's filter allows; None for no filter.
    items
        What was answered.
    """

    server: int
    user: str
    sent_at: int
    answered_at: int
    as_of: int
    items: list[str]
    barred: frozenset[str] = frozenset()
    most: float | None = None
    knows_visitor: bool = True


class Facts(Struct):
    """Everything that was made so, by whom it concerns.

    Attributes
    ----------
    spells
        Item -> what it was like, one after the other.
    met
        User -> item -> from when on it may not be shown to them, ms, and why.
    hiding
        Server -> spells during which items of a genre were surely hidden: genre, from, until.
    """

    spells: dict[str, list[Spell]] = field(default_factory=dict)
    met: dict[str, dict[str, tuple[int, str]]] = field(default_factory=lambda: defaultdict(dict))
    hiding: dict[int, list[list[object]]] = field(default_factory=lambda: defaultdict(list))

    def violations(self, asked: Asked, genres: Mapping[str, str]) -> Iterator[str]:
        """Say of each item that must not have been answered why not."""
        if len(set(asked.items)) < len(asked.items):
            yield "twice in one slate"
        for item_id in asked.items:
            if item_id in asked.barred:
                yield "barred by the request"
            known_at, why = self.met[asked.user].get(item_id, (2**62, ""))
            if known_at <= asked.sent_at and asked.knows_visitor:
                yield why
            if self._was_out(item_id, asked):
                yield "removed or not available"
            if asked.most is not None and not self._may_cost(item_id, asked):
                yield "does not pass the filter"
            if self._was_hidden(genres[item_id], asked):
                yield "hidden by a rule"

    def _was_out(self, item_id: str, asked: Asked) -> bool:
        return any(
            one.is_out and one.known_at <= asked.as_of and asked.answered_at < one.until
            for one in self.spells[item_id]
        )

    def _may_cost(self, item_id: str, asked: Asked) -> bool:
        """Return whether some price it may have had by then passes: it is known of none that it was not."""
        spells = self.spells[item_id]
        last_known = max((n for n, one in enumerate(spells) if one.known_at <= asked.as_of), default=0)
        possible = [one for one in spells[last_known:] if one.begun_at <= asked.answered_at]
        return any(one.price < (asked.most or 0.0) for one in possible)

    def _was_hidden(self, genre: str, asked: Asked) -> bool:
        return any(
            genre == hidden and begin <= asked.sent_at and asked.answered_at < end  # type: ignore[operator]
            for hidden, begin, end in self.hiding[asked.server]
        )


def tally(found: Sequence[str]) -> dict[str, int]:
    """Count violations by reason."""
    return {why: found.count(why) for why in sorted(set(found))}
