"""Imports of history: how their records are marked, what of them has arrived, and what they may not hold."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from state.decoding import Refusal
from state.events import Decision, User
from state.outbox import Arrivals

KEPT = 256
"""Imports a unit remembers; the one that began longest ago is forgotten first."""
IMPORT_NAME = r"[a-z0-9][a-z0-9_.-]{0,47}"
_FIELD = "import:"
_MARK = re.compile(rf"{IMPORT_NAME}@[0-9a-f]{{16}}")


def import_mark(name: str, fingerprint: str) -> str:
    """Return what each record of an import carries: the same name with other files is another import."""
    return f"{name}@{fingerprint}"


@lru_cache(maxsize=256)
def is_import_mark(text: str) -> bool:
    """Return whether a text can be an import's mark."""
    return _MARK.fullmatch(text) is not None


def import_fingerprints(fields: Iterable[str], name: str) -> set[str]:
    """Return the fingerprints under which a unit has folded rows of a name, from its meta hash's fields."""
    start = f"{_FIELD}{name}@"
    return {field[len(start) :] for field in fields if field.startswith(start)}


def check_importable(event: Any) -> None:
    """Refuse what only makes sense at the moment it happens.

    Raises
    ------
    Refusal
        If the event is a decision, an erasure or a login.
    """
    if isinstance(event, Decision):
        raise Refusal("not_importable", "event_id", event.event_id, "no decision: its window is long over")
    if isinstance(event, User) and event.erase:
        raise Refusal("not_importable", "erase", True, "an erasure is sent when it is asked for")
    if isinstance(event, User) and event.merge_session is not None:
        raise Refusal("not_importable", "merge_session", event.merge_session, "rows that carry the user_id")


class Imports:
    """Which rows of which imports a unit has folded, so that rows sent again count once.

    Parameters
    ----------
    meta
        The unit's meta hash as stored.
    """

    def __init__(self, meta: Mapping[str, str] | None = None) -> None:
        self._held: dict[str, tuple[int, Arrivals]] = {}
        self._moved: set[str] = set()
        self._dropped: set[str] = set()
        for field, text in (meta or {}).items():
            if field.startswith(_FIELD):
                turn, _, arrivals = text.partition("|")
                self._held[field[len(_FIELD) :]] = int(turn), Arrivals(arrivals)

    def is_new(self, mark: str, number: int) -> bool:
        """Note a row of an import; returns whether it came for the first time."""
        if mark not in self._held:
            self._begin(mark)
        self._moved.add(mark)
        return self._held[mark][1].is_new(number)

    def _begin(self, mark: str) -> None:
        if len(self._held) >= KEPT:
            oldest = min(self._held, key=lambda one: self._held[one][0])
            del self._held[oldest]
            self._moved.discard(oldest)
            self._dropped.add(oldest)
        turn = 1 + max((turn for turn, _ in self._held.values()), default=0)
        self._held[mark] = turn, Arrivals()
        self._dropped.discard(mark)

    def take_moved(self) -> tuple[dict[str, str], list[str]]:
        """Return the meta fields to write and to drop since the last call."""
        kept = {_FIELD + mark: self._encoded(mark) for mark in sorted(self._moved)}
        dropped = [_FIELD + mark for mark in sorted(self._dropped)]
        self._moved.clear()
        self._dropped.clear()
        return kept, dropped

    def _encoded(self, mark: str) -> str:
        turn, arrivals = self._held[mark]
        return f"{turn}|{arrivals.encode()}"
