"""One click folded into every count and vector of the recommender in a single compiled call."""

from typing import NamedTuple

import numpy as np

from online_models._covisit_loops import CoVisitRecipe, CoVisitTables, add_pairs
from online_models._embedding_loops import EmbeddingRecipe, EmbeddingTables, learn
from online_models._item_clock import ItemClock, tick
from online_models._session_tables import SessionTables, add_click, find
from online_models.arrays import IntArray
from online_models.compiled import compiled


class Models(NamedTuple):
    """The arrays a click changes."""

    sessions: SessionTables
    covisits: CoVisitTables
    covisit_recipe: CoVisitRecipe
    embedding: EmbeddingTables
    embedding_recipe: EmbeddingRecipe
    clock: ItemClock


class Click(NamedTuple):
    """One click, and what the models' owners know of the moment."""

    session: int
    item: int
    at_ms: int
    begun: int  # sessions begun before it
    scale: float  # weight of its co-visits
    most: int  # postings per item of the session index


NO_ROOM, WENT_ON, BEGAN = 0, 1, 2


@compiled
def clicks_of(t: SessionTables, session: int) -> IntArray:
    """Clicks kept of a session, oldest first."""
    seq = find(t, session)
    slot = seq & (t.seq_at.shape[0] - 1)
    length = t.length[slot] if seq >= 0 else 0
    return t.rows[slot, :length].astype(np.int64)


@compiled
def fold(m: Models, click: Click) -> int:
    """Fold a click; tell whether its session began with it, or that postings must be rebuilt first."""
    before = clicks_of(m.sessions, click.session)
    if not add_click(m.sessions, click.session, click.item, click.at_ms, click.most):
        return NO_ROOM
    begins = before.shape[0] == 0
    window = m.covisit_recipe.position_decay.shape[0] - 1
    add_pairs(m.covisits, m.covisit_recipe, before[-window:], click.item, click.scale)
    learn(m.embedding, m.embedding_recipe, before[-m.embedding.position.shape[1] :], click.item)
    tick(m.clock, click.item, click.begun + begins)
    return BEGAN if begins else WENT_ON
