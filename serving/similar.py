"""Items like one item: by content, by what is seen together, by sessions; nothing that may not be shown."""

import time
from typing import Annotated, Any

import numpy as np
from litestar import Request, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import Parameter
from msgspec import Struct
from msgspec.structs import replace

from online_models.sources import BEHAVIOUR, CONTENT, COVISIT, HOP, KNN
from serving.candidates import SOURCES, Found, retrieve
from serving.live import LiveState
from serving.merchandising import wishes_of
from serving.queries import Wished, Words, request_of, words_of
from serving.reader import SubjectReader
from serving.requests import RecommendationRequest
from serving.sync import Sync
from serving.visitor import asked_of
from state.events import subject_of
from state.filters import parse_filter
from state.pseudonyms import Pseudonyms
from state.subject import SubjectRecord

_ALIKE = (1 << KNN) | (1 << COVISIT) | (1 << HOP) | (1 << CONTENT) | (1 << BEHAVIOUR)
"""Sources that tell of likeness, and not of what is popular or new."""
NOBODY = "nobody"


class SimilarItem(Struct):
    """One item, how it was found, and the blend's score: only differences within one answer mean anything."""

    item_id: str
    title: str
    reason: str
    score: float


class SimilarAnswer(Struct):
    """Items like one, the likest first; fewer than asked for where fewer are alike.

    ``knows_visitor`` says that what the visitor named has hidden and seen was left out; without a visitor,
    or where the store does not answer, nobody's was.
    """

    item_id: str
    items: list[SimilarItem]
    knows_visitor: bool
    state_as_of: int
    staleness_ms: int


class SimilarItems:
    """The service behind ``/v1/similar``.

    Parameters
    ----------
    live
        What to answer from.
    parts
        Reader of subject records, feed follower, and what users are called by.
    """

    def __init__(self, live: LiveState, parts: tuple[SubjectReader, Sync, Pseudonyms]) -> None:
        self._live = live
        self._reader, self._sync, self._pseudonyms = parts

    async def answer(self, item_id: str, request: RecommendationRequest) -> SimilarAnswer:
        """Return items like one, for a visitor where the request names one.

        Raises
        ------
        NotFoundException
            If the catalogue does not know the item.
        Refusal
            If the filter cannot be understood.
        """
        if request.filter is not None:
            parse_filter(request.filter)
        if request.user_id:
            request.user_id = self._pseudonyms.of(request.user_id)
        subject, record = subject_of(request.user_id, request.session_id), None
        if subject != subject_of(None, NOBODY):
            record = await self._reader.read(subject)
        now_ms, staleness_ms = time.time_ns() // 1_000_000, min(self._sync.staleness_ms(), 2**31)
        if not self._live.items.is_known(item_id):
            raise NotFoundException(f"the catalogue knows no item {item_id!r}")
        return SimilarAnswer(
            item_id=item_id,
            items=similar_to(self._live, item_id, request, record, now_ms),
            knows_visitor=record is not None,
            state_as_of=now_ms - staleness_ms,
            staleness_ms=staleness_ms,
        )


def similar_to(
    live: LiveState, item_id: str, request: RecommendationRequest, record: SubjectRecord | None, now_ms: int
) -> list[SimilarItem]:
    """Return items like one that a visitor may be shown."""
    subject = subject_of(request.user_id, request.session_id)
    asked = asked_of(live, request, record or SubjectRecord(), subject, now_ms)
    rows = live.items.rows([item_id])
    rules, catalogue = live.rules(request.surface), (live.items, live.filters)
    asked = replace(
        asked,
        recent=rows,
        weights=np.ones(len(rows)),
        excluded=np.concatenate([asked.excluded, rows]),
        wishes=wishes_of(rules, request, catalogue, now_ms, is_holdout=True),
    )
    found = retrieve(live, asked, 0)
    return [_item(live, found, place) for place in np.flatnonzero(found.brought_by & _ALIKE)[: request.k]]


def _item(live: LiveState, found: Found, place: int) -> SimilarItem:
    row = int(found.rows[place])
    reason = SOURCES[found.sources[place]]
    return SimilarItem(live.items.ids[row], live.items.titles[row], reason, float(found.scores[place]))


_K = Annotated[int, Parameter(ge=1, le=50, description="Items wanted.")]
_Id = Annotated[str | None, Parameter(min_length=1, max_length=128, description="Whom it is for, if known.")]


@get("/v1/similar/{item_id:str}", summary="Items like one")
async def get_similar(
    item_id: Annotated[str, Parameter(min_length=1, max_length=128, description="An item of the catalogue.")],
    request: Request[Any, Any, State],
    k: _K = 10,
    surface: str = "home",
    session_id: _Id = None,
    user_id: _Id = None,
    exclude: Words = "",
    filter: Wished = None,  # noqa: A002 - the name of the parameter
) -> SimilarAnswer:
    """Return items like one by content and by what visitors do; nothing is explored, and nothing logged."""
    wished = {
        "session_id": session_id or NOBODY,
        "user_id": user_id,
        "surface": surface,
        "k": k,
        "exclude": words_of(exclude),
        "filter": filter,
    }
    found: SimilarAnswer = await request.app.state.similar.answer(item_id, request_of(wished))
    return found
