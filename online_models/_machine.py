"""All arrays one query of the recommender touches, as one tuple for compiled loops."""

from typing import NamedTuple

import numpy as np

from online_models._candidate_loops import Candidates
from online_models._click_loop import Models
from online_models._session_score import Recipe, Scratch
from online_models._topk import Best, room_for
from online_models.arrays import BoolArray, IntArray


class Brought(NamedTuple):
    """Rows that sources bring, one part after the other."""

    rows: IntArray  # (n,)
    ends: IntArray  # (parts,)
    codes: IntArray  # (parts,) of the sources


class Machine(NamedTuple):
    """Models, and the working memory of a query; S = sources."""

    models: Models
    recipe: Recipe
    scratch: Scratch
    hops: int  # best items found whose own neighbours are looked at
    candidates: Candidates
    asked: BoolArray  # (S,) which sources on clicks are listened to
    near: Best  # of the session index
    around: Best  # of co-visits
    further: Best  # of co-visits with those
    found: IntArray  # (3,) how many each of these three holds


def best_of_each(per_source: int) -> tuple[Best, Best, Best, IntArray]:
    """Make room for what each of the three counting sources finds."""
    return room_for(per_source), room_for(per_source), room_for(per_source), np.zeros(3, np.int64)
