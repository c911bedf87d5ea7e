"""V-SKNN (Ludewig, Jannach 2018) in compiled loops, updated click by click."""

from typing import NamedTuple

import numpy as np

from headwater.evaluation.clicks import Click
from headwater.evaluation.measures import judge
from headwater.evaluation.trial import Query
from online_models._topk import Best, offer, room_for, sort_descending
from online_models.arrays import FloatArray, IntArray
from online_models.compiled import compiled

_FIRST = 4_096
_NONE = -1


class Tables(NamedTuple):
    """Sessions by place (in the order in which they began) and who holds what, as linked entries.

    An entry is one item of one session: it is found from its session and from its item, latest first.
    """

    place: IntArray  # (sessions,) place of a session by its number, -1 before its first click
    length: IntArray  # (sessions,) by place: different items
    last_of: IntArray  # (sessions,) by place: its latest entry
    holders: IntArray  # (items,) sessions holding an item
    last_with: IntArray  # (items,) its latest entry
    entry: IntArray  # (entries, 4): item, place, entry before of the session, entry before of the item
    size: IntArray  # (2,): entries, sessions


class Scratch(NamedTuple):
    """Working memory of a query; zero between queries."""

    shared: FloatArray  # (sessions,) sum of shared items' weights
    gap: IntArray  # (sessions,) clicks from the end of the latest shared item
    score: FloatArray  # (items,)


@compiled
def add_click(t: Tables, session: int, item: int) -> None:
    """Append one click; an item its session has got already changes nothing."""
    place = t.place[session]
    if place < 0:
        place = t.size[1]
        t.place[session] = place
        t.size[1] += 1
    entry = t.last_of[place]
    while entry >= 0:
        if t.entry[entry, 0] == item:
            return
        entry = t.entry[entry, 2]
    new = t.size[0]
    t.entry[new, 0], t.entry[new, 1] = item, place
    t.entry[new, 2], t.entry[new, 3] = t.last_of[place], t.last_with[item]
    t.last_of[place], t.last_with[item] = new, new
    t.length[place] += 1
    t.holders[item] += 1
    t.size[0] += 1


@compiled
def share(t: Tables, s: Scratch, items: IntArray, own: int, sample: int) -> IntArray:
    """Sum what sessions share with a query, the latest `sample` of each item; return their places."""
    touched, count = np.empty(sample * items.shape[0], np.int64), 0
    total = items.shape[0]
    for gap in range(total):
        item, is_latest = items[total - 1 - gap], True
        for later in range(total - gap, total):
            is_latest = is_latest and items[later] != item
        if not is_latest:
            continue
        weight, looked, entry = ((total - gap) / total) ** 2, 0, t.last_with[item]
        while entry >= 0 and looked < sample:
            place = t.entry[entry, 1]
            if place != own:
                if s.shared[place] == 0.0:
                    touched[count], s.gap[place] = place, gap
                    count += 1
                s.shared[place] += weight
            looked += 1
            entry = t.entry[entry, 3]
    return touched[:count]


@compiled
def vote(t: Tables, s: Scratch, near: Best, held: int) -> IntArray:
    """Let the nearest sessions vote for their items; return the items."""
    items, count = np.empty(t.holders.shape[0], np.int64), 0
    for n in range(held):
        place = near.keys[n]
        worth = near.values[n] * max(0.0, 1.0 - 0.1 * s.gap[place])
        entry = t.last_of[place]
        while entry >= 0 and worth > 0.0:
            item = t.entry[entry, 0]
            if s.score[item] == 0.0:
                items[count] = item
                count += 1
            s.score[item] += worth
            entry = t.entry[entry, 2]
    return items[:count]


@compiled
def rank(t: Tables, s: Scratch, query: tuple[IntArray, int, int], near: Best, best: Best) -> int:
    """Rank items for a query (items, own place, sessions looked at); return how many `best` holds."""
    items, own, sample = query
    touched = share(t, s, items, own, sample)
    looked = touched if touched.shape[0] <= sample else np.sort(touched)[-sample:]
    held = 0
    for place in looked:
        alike = s.shared[place] / np.sqrt(items.shape[0] * t.length[place])
        held = offer(near, held, alike, place)
    found, size = vote(t, s, near, held), 0
    for item in found:
        rarity = 1.0 + 10.0 * np.log(t.size[1] / t.holders[item])
        size = offer(best, size, s.score[item] * rarity, item)
        s.score[item] = 0.0
    for place in touched:
        s.shared[place] = 0.0
    sort_descending(best, size)
    return size


def _longer(array: IntArray, length: int, fill: int) -> IntArray:
    if length <= len(array):
        return array
    grown = np.full((2 * length, *array.shape[1:]), fill, np.int64)
    grown[: len(array)] = array
    return grown


class VSknn:
    """V-SKNN with the settings behind its published rows: k 1500, quadratic weights, linear score, idf 10.

    Candidates are the 10,000 sessions begun latest among those that share an item; similarity is the sum of
    the shared items' quadratic weights over the root of both lengths; the latest shared item's place decays
    the vote linearly.
    """

    def __init__(self, neighbours: int = 1500, sample: int = 10_000) -> None:
        self._k, self._sample = neighbours, sample
        none = np.full(_FIRST, _NONE)
        zero, entries = np.zeros(_FIRST, np.int64), np.zeros((_FIRST, 4), np.int64)
        self._t = Tables(none, zero, none.copy(), zero.copy(), none.copy(), entries, np.zeros(2, np.int64))
        self._s = Scratch(np.zeros(0), zero[:0], np.zeros(0))

    def add(self, click: Click) -> None:
        """Append one click to its session."""
        t = self._t
        enough = click.session < len(t.place) and click.item < len(t.holders)
        if not enough or t.size[0] == len(t.entry) or t.size[1] == len(t.length):
            self._t = t = self._grown(click)
        add_click(t, click.session, click.item)

    def _grown(self, click: Click) -> Tables:
        t, begun, items = self._t, int(self._t.size[1]) + 1, click.item + 1
        return Tables(
            _longer(t.place, click.session + 1, _NONE),
            _longer(t.length, begun, 0),
            _longer(t.last_of, begun, _NONE),
            _longer(t.holders, items, 0),
            _longer(t.last_with, items, _NONE),
            _longer(t.entry, int(t.size[0]) + 1, 0),
            t.size,
        )

    def recommend(self, query: Query) -> IntArray:
        """Rank the neighbours' items."""
        t = self._t
        if len(self._s.shared) != len(t.length) or len(self._s.score) != len(t.holders):
            places, items = len(t.length), len(t.holders)
            self._s = Scratch(np.zeros(places), np.zeros(places, np.int64), np.zeros(items))
        own = int(t.place[query.session]) if query.session < len(t.place) else _NONE
        known = query.items[query.items < len(t.holders)]
        best = room_for(query.limit + len(query.items) * query.novel_only)
        size = rank(t, self._s, (known, own, self._sample), room_for(self._k), best)
        return best.keys[:size]


def warm_up_loops() -> None:
    """Compile (or load from disk) the loops, so that no figure holds their compilation."""
    model = VSknn()
    model.add(Click(0, 0, 0))
    model.recommend(Query(1, np.zeros(1, np.int64), 0, 1, novel_only=False))
    judge(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(3), np.zeros(3))
