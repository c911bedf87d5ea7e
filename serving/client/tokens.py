"""Remembers where visitors' latest events stand, so that the next answer can wait for them."""

from collections import OrderedDict

SUBJECTS = 10_000
LIFE_S = 60.0


class Tokens:
    """Freshness tokens of the latest visitors.

    Of each topic the last place is enough: a shard folds a partition in order.

    Parameters
    ----------
    subjects
        Visitors remembered; of more the longest silent are forgotten.
    life_s
        How long a token is of use, s: an engine that is further behind makes every answer stale anyhow.
    """

    def __init__(self, subjects: int = SUBJECTS, life_s: float = LIFE_S) -> None:
        self._most, self._life_s = subjects, life_s
        self._held: OrderedDict[str, tuple[float, dict[str, int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def note(self, subject: str, token: str, now_s: float) -> None:
        """Take in the token of an accepted event, TOPIC/PARTITION/OFFSET; others are of no use here."""
        place, _, offset = token.rpartition("/")
        if not place or not (offset.isascii() and offset.isdecimal()):
            return
        places = self._places(subject, now_s)
        places[place] = max(places.get(place, 0), int(offset))
        self._held[subject] = now_s, places
        self._held.move_to_end(subject)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def after(self, subject: str, now_s: float) -> str | None:
        """Return what a request of this visitor should wait for, if anything."""
        places = self._places(subject, now_s)
        return ",".join(f"{place}/{offset}" for place, offset in sorted(places.items())) or None

    def settle(self, subject: str, token: str, now_s: float) -> None:
        """Forget what an answer has been seen to contain; every later one contains it, too."""
        if self.after(subject, now_s) == token:
            self._held.pop(subject, None)

    def _places(self, subject: str, now_s: float) -> dict[str, int]:
        noted_s, places = self._held.get(subject, (0.0, {}))
        return dict(places) if now_s - noted_s <= self._life_s else {}
