"""Clicks folded into every count and vector of the recommender in one compiled call."""

from typing import NamedTuple

import numpy as np

from online_models._covisit_loops import BEGUN, CoVisitRecipe, CoVisitTables, add_pairs
from online_models._embedding_loops import EmbeddingRecipe, EmbeddingTables, learn
from online_models._item_clock import ItemClock, tick
from online_models._session_tables import SessionTables, add_click, find
from online_models.arrays import IntArray
from online_models.compiled import Held, compiled


class Models(NamedTuple):
    """The arrays a click changes."""

    sessions: SessionTables
    most: int  # postings per item of the session index
    covisits: CoVisitTables
    covisit_recipe: CoVisitRecipe
    embedding: EmbeddingTables
    embedding_recipe: EmbeddingRecipe
    clock: ItemClock


@compiled
def clicks_of(t: SessionTables, session: int) -> IntArray:
    """Clicks kept of a session, oldest first."""
    seq = find(t, session)
    slot = seq & (t.seq_at.shape[0] - 1)
    length = t.length[slot] if seq >= 0 else 0
    return t.rows[slot, :length].astype(np.int64)


@compiled
def _fold(m: Models, session: int, item: int, at_ms: int) -> bool:
    before = clicks_of(m.sessions, session)
    if not add_click(m.sessions, session, item, at_ms, m.most):
        return False
    window = m.covisit_recipe.position_decay.shape[0] - 1
    latest = before[-1] if before.shape[0] > 0 else item
    near = m.covisits.neighbour[latest, : m.covisits.held[latest]]
    learn(m.embedding, m.embedding_recipe, before[-m.embedding.position.shape[1] :], item, near)
    add_pairs(m.covisits, m.covisit_recipe, before[-window:], item)
    tick(m.clock, item, m.covisits.moment[BEGUN])
    return True


@compiled
def fold(held: Held, session: int, item: int, at_ms: int) -> bool:
    """Fold a click; False, with nothing changed, when postings must be rebuilt first."""
    return bool(_fold(held.tables, session, item, at_ms))


@compiled
def fold_many(held: Held, sessions: IntArray, items: IntArray, at_ms: IntArray) -> int:
    """Fold clicks in order; return how many were folded before postings must be rebuilt."""
    for n in range(sessions.shape[0]):
        if not _fold(held.tables, sessions[n], items[n], at_ms[n]):
            return n
    return int(sessions.shape[0])
