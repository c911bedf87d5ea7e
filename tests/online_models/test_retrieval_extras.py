"""What a root adds to the recommender: its catalogue decides, its parts take part, its inputs are learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.candidates import ELSEWHERE, EXCLUDED, SEEN, UNAVAILABLE, Catalogue, Wanted
from online_models.retrieval import Recommender
from online_models.sources import CONTENT, KNN, NEW, SESSION, TREND, Part, Query
from tests.online_models.test_retrieval import SMALL, fed

ITEMS = 20
AVAILABLE = np.arange(ITEMS) % 7 != 6
CODES = np.stack([np.arange(ITEMS) % 3, np.full(ITEMS, -1)], axis=1).astype(np.int32)
HASHES = (np.arange(ITEMS, dtype=np.uint64) + np.uint64(1)) * np.uint64(2**60 + 7)
NONE = np.zeros(0, np.int64)


class Shop:
    """A catalogue of 20 items, of which some are not available, and two sources."""

    names: tuple[str, ...] = ("cheap",)
    first_weights: Mapping[str, float] = {"content_rank": 0.5}

    def __init__(self, *, hides_known: bool = False) -> None:
        self.hides_known = hides_known
        self.asked: list[Query] = []

    def catalogue(self, query: Query) -> Catalogue:  # noqa: ARG002
        return Catalogue(
            AVAILABLE, np.zeros(ITEMS, np.int64), HASHES, CODES, np.zeros((ITEMS, 2), np.float32)
        )

    def wanted(self, query: Query) -> Wanted:
        return Wanted(query.items if self.hides_known else NONE, HASHES[:0], NONE, ITEMS)

    def parts(self, query: Query) -> Sequence[Part]:
        self.asked.append(query)
        return [Part(CONTENT, np.array([3, 19, 4])), Part(NEW, np.array([19, 18]))]

    def last_resort(self, query: Query) -> Sequence[Part]:
        self.asked.append(query)
        return [Part(TREND, np.arange(ITEMS))]

    def inputs(self, query: Query, rows: Any) -> Any:
        self.asked.append(query)
        return np.where(rows % 2 == 0, 1.0, -1.0)[:, None]


def wanted(excluded: Any = NONE, seen: Any = (), categories: Any = NONE, limit: int = 100) -> Wanted:
    hashes = np.sort(HASHES[np.asarray(seen, np.int64)])
    return Wanted(np.asarray(excluded, np.int64), hashes, np.asarray(categories, np.int64), limit)


def shop(events: Any = ()) -> Recommender:
    recommender = Recommender(SMALL, Shop())
    for session, item, at_ms in events:
        recommender.add(session, item, at_ms)
    return recommender


def ask(recommender: Recommender, items: Any, limit: int, w: Wanted | None = None) -> Any:
    return recommender.retrieve(Query(np.asarray(items, np.int64), 10_000, None, w), limit)


rows = st.lists(st.integers(-2, ITEMS + 3), max_size=6)
known = st.lists(st.integers(0, ITEMS - 1), max_size=6)
clicks = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, ITEMS - 1), st.integers(0, 10_000)), max_size=50
)


@settings(max_examples=60, deadline=None)
@given(clicks, known, rows, known, st.lists(st.integers(0, 2), max_size=2), st.integers(1, 25))
def test_answers_hold_what_may_be_shown_and_say_why_the_rest_may_not(
    events: Any, query: Any, excluded: Any, seen: Any, categories: Any, limit: Any
) -> None:
    answer = ask(shop(events), query, limit, wanted(excluded, seen, categories))

    def why(row: int) -> int:
        if not AVAILABLE[row]:
            return UNAVAILABLE
        if row in seen:
            return SEEN
        if row in excluded:
            return EXCLUDED
        return ELSEWHERE if categories and CODES[row, 0] not in categories else 0

    assert [why(row) for row in answer.rows.tolist()] == [0] * len(answer.rows)
    assert [why(row) for row in answer.cut.tolist()] == answer.reasons.tolist()
    assert len(set(answer.rows.tolist()) | set(answer.cut.tolist())) == len(answer.rows) + len(answer.cut)
    eligible = sum(why(row) == 0 for row in range(ITEMS))
    assert len(answer.rows) == min(limit, eligible)


def test_each_candidate_names_the_sources_that_brought_it() -> None:
    recommender = shop([(1, 3, 0), (1, 4, 1), (2, 3, 2), (2, 5, 3)])
    answer = ask(recommender, [3], 3)
    by_row = dict(zip(answer.rows.tolist(), answer.sources.tolist(), strict=True))
    everything = ask(recommender, [3], 20)
    by_row |= dict(zip(everything.rows.tolist(), everything.sources.tolist(), strict=True))
    first = dict(zip(everything.rows.tolist(), everything.first.tolist(), strict=True))
    assert by_row[4] & (1 << KNN)
    assert by_row[4] & (1 << CONTENT)
    assert first[4] == KNN
    assert by_row[3] & (1 << SESSION)
    assert first[19] == CONTENT
    assert by_row[19] & (1 << NEW)
    assert first[18] == NEW


def test_places_in_extra_sources_are_inputs_by_name() -> None:
    recommender = shop()
    answer = ask(recommender, [], 4)
    at = {name: place for place, name in enumerate(recommender.names)}
    inputs = dict(zip(answer.rows.tolist(), answer.inputs, strict=True))
    assert inputs[3][at["content_rank"]] == 1.0
    assert inputs[19][at["content_rank"]] == 1 / np.sqrt(2)
    assert inputs[19][at["new_rank"]] == 1.0
    assert inputs[3][at["new_rank"]] == 0.0
    assert [inputs[row][at["cheap"]] for row in (3, 18)] == [-1.0, 1.0]
    assert recommender.blend.weights[at["content_rank"]] == 0.5


def test_the_limit_of_what_is_wanted_bounds_the_candidates() -> None:
    assert len(ask(shop(), [], 10, wanted(limit=2)).rows) == 2


def test_the_last_resort_is_asked_where_the_sources_bring_too_little() -> None:
    recommender = shop()
    assert set(ask(recommender, [], 4).rows.tolist()) == {3, 4, 18, 19}
    assert len(ask(recommender, [], 18).rows) == int(AVAILABLE.sum())


def test_an_item_beyond_the_catalogue_is_not_available() -> None:
    recommender = shop([(1, 3, 0), (1, 500, 1), (2, 3, 2)])
    answer = ask(recommender, [3], 5)
    assert 500 not in answer.rows
    assert 500 in answer.cut


def test_lessons_ask_the_root_what_requests_ask_it_and_learn_its_inputs() -> None:
    rng, recommender = np.random.default_rng(0), shop()
    for session in range(400):
        for item in (int(rng.integers(ITEMS)), 2 * int(rng.integers(ITEMS // 2))):
            recommender.add(session, item, session)
    extras = recommender._extras
    assert isinstance(extras, Shop)
    assert extras.asked
    assert extras.asked[-1].session is not None
    at = recommender.names.index("cheap")
    assert recommender.blend.weights[at] > 0.1


def test_lessons_are_about_what_the_root_says_may_be_shown() -> None:
    recommender = Recommender(SMALL, Shop(hides_known=True))
    for session in range(200):
        for item in (3, 3, 4):  # whoever takes 3 takes it again at once, but the root never shows it again
            recommender.add(session, item, session)
    lessons = recommender.blend.lessons
    assert lessons > 0
    before = recommender.blend.weights.copy()
    for session in range(200, 200 + 2 * SMALL.learn_every):
        recommender.add(session, 3, session)
        recommender.add(session, 3, session)
    assert recommender.blend.lessons == lessons
    assert recommender.blend.weights.tolist() == before.tolist()


def test_without_a_root_nothing_but_clicks_answers() -> None:
    recommender = fed([(1, 3, 0), (1, 4, 1)])
    assert set(ask(recommender, [3], 20, wanted(excluded=[4])).rows.tolist()) == {3}


def test_no_place_of_a_source_goes_to_what_may_not_be_shown() -> None:
    few = replace(SMALL, per_source=2)
    recommender = Recommender(few, Shop())
    for session, item in [(s, i) for s in range(8) for i in (1, 2, 3, 4, 5)]:
        recommender.add(session, item, session)
    neighbours = ask(recommender, [1, 2], 20, wanted(excluded=[1, 2], seen=[3]))
    by_row = dict(zip(neighbours.rows.tolist(), neighbours.sources.tolist(), strict=True))
    assert [row for row, bits in by_row.items() if bits & (1 << KNN)] in ([4, 5], [5, 4])
    cut = dict(zip(neighbours.cut.tolist(), neighbours.reasons.tolist(), strict=True))
    assert cut.items() >= {1: EXCLUDED, 2: EXCLUDED, 3: SEEN}.items()


def test_a_lesson_offers_nothing_the_session_has_taken_however_long_it_is() -> None:
    longest = SMALL.max_query + 5
    recommender = Recommender(replace(SMALL, learn_every=1, learn_early=1), Shop(hides_known=True))
    for item in range(ITEMS - 1):
        recommender.add(0, item, item)
    for step in range(longest):
        recommender.add(1, step % 5, 100 + step)
    offered: list[list[int]] = []
    learn = recommender.blend.learn

    def watch(inputs: Any, target: int) -> float:
        offered.append(recommender._finder.rows[: len(inputs)].tolist())
        return learn(inputs, target)

    recommender.blend.learn = watch  # type: ignore[method-assign]
    for step in range(longest):
        recommender.add(1, 7, 200 + step)
    recommender.add(1, 8, 300)
    assert offered
    assert not {row for rows in offered for row in rows} & {0, 1, 2, 3, 4}
