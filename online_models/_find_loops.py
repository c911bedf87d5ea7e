"""One query of the recommender in one compiled call: sources on clicks are asked, merged and described."""

from online_models import _covisit_loops as covisits
from online_models._blend_loops import describe
from online_models._candidate_loops import Merged, begin, finish, take
from online_models._machine import Brought
from online_models._session_score import Query as SessionQuery
from online_models._session_score import score
from online_models._session_tables import find as session_number
from online_models.arrays import IntArray
from online_models.candidates import Catalogue, Wanted
from online_models.compiled import Held, compiled
from online_models.sources import COVISIT, HOP, KNN, SESSION

NO_SESSION = -1


@compiled
def ask(held: Held, items: IntArray, oldest_ms: int, session: int, has_session: bool) -> None:
    """Let the session index, co-visits and their second hop each find their best items."""
    m = held.tables
    skip = session_number(m.models.sessions, session) if has_session else NO_SESSION
    query = SessionQuery(items[-m.recipe.query_decay.shape[0] :], oldest_ms, skip)
    m.found[0] = score(m.models.sessions, m.scratch, m.recipe, query, m.near)
    m.found[1] = covisits.score_pairs(m.models.covisits, m.models.covisit_recipe, items, m.around)
    seeds = min(m.found[1], m.hops)
    m.found[2] = covisits.score_hops(m.models.covisits, m.models.covisit_recipe, m.around, seeds, m.further)


@compiled
def merge(held: Held, items: IntArray, further: Brought, catalogue: Catalogue, wanted: Wanted) -> Merged:
    """Merge what was found, the session's own items and further parts into candidates, and describe them."""
    m = held.tables
    c, asked, found = m.candidates, m.asked, m.found
    brought = found.sum() + items.shape[0] + further.rows.shape[0]
    sieve = begin(c, catalogue, wanted, brought)
    if asked[KNN]:
        take(c, sieve, m.near.keys[: found[0]], KNN)
    if asked[COVISIT]:
        take(c, sieve, m.around.keys[: found[1]], COVISIT)
    if asked[HOP]:
        take(c, sieve, m.further.keys[: found[2]], HOP)
    if asked[SESSION]:
        take(c, sieve, items[::-1].copy(), SESSION)
    start = 0
    for part in range(further.ends.shape[0]):
        end = further.ends[part]
        take(c, sieve, further.rows[start:end], further.codes[part])
        start = end
    merged = finish(sieve)
    describe(m, merged.size, items)
    return merged


@compiled
def find(
    held: Held,
    items: IntArray,
    moment: tuple[int, int, bool],
    further: Brought,
    catalogue: Catalogue,
    wanted: Wanted,
) -> Merged:
    """Ask the sources at a moment (oldest click that counts, key of the session, whether there is one)."""
    oldest_ms, session, has_session = moment
    ask(held, items, oldest_ms, session, has_session)
    return merge(held, items, further, catalogue, wanted)
