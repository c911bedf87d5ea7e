"""One query of the recommender in one compiled call: sources on clicks are asked, merged and described."""

from online_models import _covisit_loops as covisits
from online_models._blend_loops import describe
from online_models._candidate_loops import Merged, Tally, begin, finish, open_door, take
from online_models._door import Door, Selection, open_to_all
from online_models._machine import Brought, Machine
from online_models._session_tables import find as session_number
from online_models._session_votes import Query as SessionQuery
from online_models._session_votes import score
from online_models.arrays import IntArray
from online_models.candidates import Catalogue, Wanted
from online_models.compiled import Held, compiled, compiled_borrowing
from online_models.sources import COVISIT, HOP, KNN, SESSION

NO_SESSION = -1


@compiled_borrowing
def _ask(m: Machine, items: IntArray, moment: tuple[int, int, bool], door: Door) -> None:
    oldest_ms, session, has_session = moment
    skip = session_number(m.models.sessions, session) if has_session else NO_SESSION
    query = SessionQuery(items[-m.recipe.query_decay.shape[0] :], oldest_ms, skip)
    score(m.models.sessions, m.scratch, m.recipe, query, (m.near, door))
    pairs, recipe = m.models.covisits, m.models.covisit_recipe
    covisits.score_pairs(pairs, recipe, items, m.around, door)
    covisits.score_hops(pairs, recipe, m.around.best, min(m.around.sizes[0], m.hops), m.further, door)


@compiled_borrowing
def _take(m: Machine, door: Door, tally: Tally, found: Selection, source: int) -> None:
    if m.asked[source]:
        take(m.candidates, door, tally, found.best.keys[: found.sizes[0]], source)
        take(m.candidates, door, tally, found.barred.keys[: found.sizes[1]], source)


@compiled
def _merge(m: Machine, items: IntArray, further: Brought, door: Door, wanted: Wanted) -> Merged:
    brought = items.shape[0] + further.rows.shape[0]
    brought += m.near.sizes.sum() + m.around.sizes.sum() + m.further.sizes.sum()
    tally = begin(m.candidates, wanted, brought)
    _take(m, door, tally, m.near, KNN)
    _take(m, door, tally, m.around, COVISIT)
    _take(m, door, tally, m.further, HOP)
    if m.asked[SESSION]:
        take(m.candidates, door, tally, items[::-1].copy(), SESSION)
    start = 0
    for part in range(further.ends.shape[0]):
        end = further.ends[part]
        take(m.candidates, door, tally, further.rows[start:end], further.codes[part])
        start = end
    merged = finish(tally)
    describe(m, merged.size, items)
    return merged


@compiled
def ask(held: Held, items: IntArray, moment: tuple[int, int, bool]) -> None:
    """Let the sources on clicks each find their best items, shown or not.

    `moment` is the oldest click of a session that still counts, the key of the session that asks, and
    whether it has one.
    """
    _ask(held.tables, items, moment, open_to_all())


@compiled
def find(
    held: Held,
    items: IntArray,
    moment: tuple[int, int, bool],
    further: Brought,
    catalogue: Catalogue,
    wanted: Wanted,
) -> Merged:
    """Let the sources on clicks find what may be shown, merge it with further parts, and describe all.

    No place is spent on what may not be shown; what would have had one is among the cut.
    """
    m = held.tables
    door = open_door(m.candidates, catalogue, wanted)
    _ask(m, items, moment, door)
    return _merge(m, items, further, door, wanted)


@compiled
def merge(held: Held, items: IntArray, further: Brought, catalogue: Catalogue, wanted: Wanted) -> Merged:
    """Merge what the latest `find` found with other further parts, and describe all."""
    m = held.tables
    return _merge(m, items, further, open_door(m.candidates, catalogue, wanted), wanted)
