"""One model on trial: it is asked, judged, and then learns, and everything is timed."""

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headwater.evaluation.clicks import Click, Clicks, by_session
from headwater.evaluation.measures import CUTS, LONGEST, judge
from online_models.arrays import FloatArray, IntArray

_ROOM = 4_096


class Query(NamedTuple):
    """A session that asks for its next items; `items` are its clicks so far, oldest first."""

    session: int
    items: IntArray
    now_ms: int
    limit: int
    novel_only: bool


class Model(Protocol):
    """What a protocol drives."""

    def add(self, click: Click) -> None:
        """Learn one click."""

    def recommend(self, query: Query) -> IntArray:
        """Rank items for a session's clicks so far, best first; without these where `novel_only` says so."""


@runtime_checkable
class LearnsSessions(Protocol):
    """A model that learns a session that has ended otherwise than its clicks one by one."""

    def add_session(self, clicks: Clicks) -> None:
        """Learn all clicks of one session."""


class Moment(NamedTuple):
    """One click to be predicted.

    Attributes
    ----------
    session
        Key of the session.
    before, rest
        Its items until then, oldest first, and from then on, the one to be predicted first.
    now_ms
        When.
    part
        Period or bucket of time it is counted in.
    whole
        Clicks of the session in all.
    """

    session: int
    before: IntArray
    rest: IntArray
    now_ms: int
    part: int
    whole: int


class Judged:
    """What is known of every list judged so far; arrays grow as needed."""

    def __init__(self) -> None:
        self._size = 0
        self._columns: dict[str, NDArray[Any]] = {
            "rank": np.zeros(_ROOM, np.int16),
            "session": np.zeros(_ROOM, np.int64),
            "length": np.zeros(_ROOM, np.int32),
            "whole": np.zeros(_ROOM, np.int32),
            "known": np.zeros(_ROOM, np.int32),
            "part": np.zeros(_ROOM, np.int32),
            "repeat": np.zeros(_ROOM, np.bool_),
            "at_ms": np.zeros(_ROOM, np.int64),
            "recall": np.zeros((_ROOM, len(CUTS))),
            "precision": np.zeros((_ROOM, len(CUTS))),
            "shown": np.full((_ROOM, LONGEST), -1, np.int32),
        }

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name][: self._size]

    def ints(self, name: str) -> IntArray:
        """Return a column of whole numbers, shape (n,)."""
        return self[name].astype(np.int64)

    def floats(self, name: str) -> FloatArray:
        """Return a column of numbers, shape (n, ...)."""
        return self[name].astype(np.float64)

    @property
    def shown(self) -> NDArray[np.int32]:
        """Items shown, shape (n, 20), -1 where a list is shorter."""
        return self["shown"].astype(np.int32)

    def add(self, rows: IntArray, moment: Moment, known: int, *, repeat: bool) -> None:
        """Judge one list; `known` counts the item's clicks learnt before."""
        n, columns = self._size, self._columns
        if n == len(columns["rank"]):
            self._grow()
        rows = rows[:LONGEST]
        columns["rank"][n] = judge(rows, moment.rest, columns["recall"][n], columns["precision"][n])
        columns["shown"][n, : len(rows)] = rows
        columns["session"][n], columns["at_ms"][n] = moment.session, moment.now_ms
        columns["length"][n], columns["whole"][n] = len(moment.before), moment.whole
        columns["known"][n], columns["part"][n], columns["repeat"][n] = known, moment.part, repeat
        self._size += 1

    def _grow(self) -> None:
        for name, held in self._columns.items():
            room = np.full_like(held, -1) if name == "shown" else np.zeros_like(held)
            self._columns[name] = np.concatenate([held, room])


@dataclass(slots=True)
class Timings:
    """How long single calls took, microseconds."""

    _taken: list[float] = field(default_factory=list)

    def note(self, began: float) -> None:
        """Note a call that began at `time.perf_counter()` = `began` and ends now."""
        self.note_many(began, 1)

    def note_many(self, began: float, calls: int) -> None:
        """Note that so many calls were made since `began`, each as long as the others."""
        self._taken += [(time.perf_counter() - began) * 1e6 / calls] * calls

    def told(self, name: str) -> dict[str, float]:
        """Mean, median and 99th percentile; nothing where no call was made."""
        if not self._taken:
            return {}
        taken = np.array(self._taken)
        p50, p99 = np.percentile(taken, [50, 99]).tolist()
        return {f"{name}_us": float(taken.mean()), f"{name}_us_p50": p50, f"{name}_us_p99": p99}


class Trial:
    """One model under one protocol: what it showed, and what predictions and updates cost.

    Parameters
    ----------
    model
        Is asked and taught.
    known
        Clicks of each item learnt so far, shape (N,); shared where a trial goes on with a taught model.
    with_repeats
        Judge lists that may hold items of the session; novel ones are judged in any case.
    """

    def __init__(self, model: Model, known: IntArray, *, with_repeats: bool = True) -> None:
        self.model, self.known = model, known
        self.all, self.novel = Judged(), Judged()
        self.queries, self.updates = Timings(), Timings()
        self._with_repeats = with_repeats

    def learn(self, clicks: Clicks) -> None:
        """Learn clicks one by one, each on the clock."""
        add, note, now = self.model.add, self.updates.note, time.perf_counter
        for click in clicks:
            began = now()
            add(click)
            note(began)
        np.add.at(self.known, clicks.items, 1)

    def learn_sessions(self, clicks: Clicks) -> None:
        """Learn sessions that have ended, in the order in which they did, each on the clock.

        A model that takes no sessions is given their clicks in the order they come in.
        """
        if not isinstance(self.model, LearnsSessions):
            self.learn(clicks)
            return
        ended = by_session(clicks)
        for begin, end in ended.runs():
            session, began = ended.part(slice(begin, end)), time.perf_counter()
            self.model.add_session(session)
            self.updates.note_many(began, len(session))
        np.add.at(self.known, clicks.items, 1)

    def predict(self, moment: Moment) -> None:
        """Have one click predicted and judge the answer, with repeats and, where it is novel, without."""
        item = int(moment.rest[0])
        known, repeat = int(self.known[item]), bool((moment.before == item).any())
        if self._with_repeats:
            self.all.add(self._ask(moment, novel_only=False), moment, known, repeat=repeat)
        if not repeat:
            novel = moment._replace(rest=moment.rest[~np.isin(moment.rest, moment.before)])
            self.novel.add(self._ask(moment, novel_only=True), novel, known, repeat=False)

    def _ask(self, moment: Moment, *, novel_only: bool) -> IntArray:
        query = Query(moment.session, moment.before, moment.now_ms, LONGEST, novel_only)
        began = time.perf_counter()
        rows = self.model.recommend(query)
        self.queries.note(began)
        return rows

    def costs(self) -> dict[str, float]:
        """Microseconds per update and per query."""
        return {**self.updates.told("update"), **self.queries.told("query")}
