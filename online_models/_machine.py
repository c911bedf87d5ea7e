"""All arrays one query of the recommender touches, as one tuple for compiled loops."""

from typing import NamedTuple

from online_models._candidate_loops import Candidates
from online_models._click_loop import Models
from online_models._door import Selection
from online_models._session_votes import Recipe, Scratch
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
    near: Selection  # of the session index
    around: Selection  # of co-visits
    further: Selection  # of co-visits with those
