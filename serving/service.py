"""Answers recommendation requests: one store read, the decision path, the log; never an empty answer."""

import random
import time

import numpy as np
import structlog
from msgspec.structs import replace

from serving.admission import Admission
from serving.after import read_after
from serving.decide import Call, Decided, Rung, answer_items, decide, to_event
from serving.last_rung import static_items
from serving.live import LiveState
from serving.logbook import Logbook
from serving.metrics import ServerMetrics
from serving.observed import DecisionSample
from serving.pages import Pages
from serving.reader import SubjectReader
from serving.remembered import Remembered
from serving.requests import RecommendationAnswer, RecommendationRequest, RecommendedItem
from serving.sync import Sync
from state.decoding import Refusal
from state.events import subject_of
from state.exploration import VISITOR
from state.filters import parse_filter
from state.partition import shard_of
from state.pseudonyms import Pseudonyms
from state.settings import Settings
from state.subject import SubjectRecord
from state.tokens import TokenSigner, make_decision_id
from state.tracing import INCOMING, Tracing

log = structlog.get_logger(__name__)
TOKEN_LIFE_MS = 30 * 24 * 3_600_000


class Recommender:
    """The service behind ``/v1/recommendations``.

    Parameters
    ----------
    settings
        Of the namespace.
    live
        What to answer from.
    parts
        Reader of subject records, log of decisions, feed follower and metrics.
    admission
        Where requests in flight are counted.
    tracing
        Notes where time went; None while traces are off.
    """

    def __init__(
        self,
        settings: Settings,
        live: LiveState,
        parts: tuple[SubjectReader, Logbook, Sync, ServerMetrics],
        admission: Admission,
        tracing: Tracing | None = None,
    ) -> None:
        self._settings, self._live = settings, live
        self._reader, self._logbook, self._sync, self._metrics = parts
        self._tracing, self._tells = tracing, settings.log_level == "DEBUG"
        self._admission, self._pseudonyms = admission, Pseudonyms(settings.pseudonym_key())
        self._signer, self._pages = TokenSigner(settings.secret()), Pages(settings.secret())
        self._random = random.Random(settings.seed) if settings.seed is not None else random.SystemRandom()
        self._remembered = Remembered()
        self.sample = DecisionSample(live.registry.names)
        self._last_good: dict[str, list[str]] = {}

    async def recommend(self, request: RecommendationRequest) -> RecommendationAnswer:
        """Return a slate; the answer's rung says what it was made from.

        Raises
        ------
        Refusal
            If the request's context names a facet that only the engine knows, or its filter, a boost or a
            token cannot be read.
        """
        if VISITOR in request.context:
            raise Refusal(
                "reserved_facet", "context", VISITOR, "facets of your own: the engine knows this one"
            )
        _check_expressions(request)
        if request.user_id:
            request.user_id = self._pseudonyms.of(request.user_id)
        subject = subject_of(request.user_id, request.session_id)
        earlier = self._pages.read(request.page, request.surface, subject)
        started = time.perf_counter()
        record, stale = await self._read(request, subject)
        read = time.perf_counter()
        call = self._call(request, subject, record)
        call = replace(call, earlier=earlier) if len(earlier) else call
        self._remembered.heed(self._live.erasures)
        if record is None:
            call = replace(call, remembered=self._remembered.of(subject, read))
        else:
            self._remembered.note(subject, record, read)
        answer = self._answer(call)
        if request.page is not None and len(answer.items) == request.k:
            answer.next_page = self._next_page(call, answer)
        answer.stale, answer.waited_ms = stale, round(1000 * (read - started), 3) if request.after else 0.0
        if self._tracing is not None:
            self._trace(answer, (started, read), self._tracing)
        self._metrics.note_answer(request.surface, answer.rung)
        self._metrics.note_times(read - started, time.perf_counter() - read)
        return answer

    def _next_page(self, call: Call, answer: RecommendationAnswer) -> str | None:
        items = self._live.items
        shown = items.hashes[items.rows(item.item_id for item in answer.items)]
        return self._pages.token(np.concatenate([call.earlier, shown]), call.request.surface, call.subject)

    def _trace(self, answer: RecommendationAnswer, marks: tuple[float, float], tracing: Tracing) -> None:
        """Note what a request's time went to, and let what becomes of its decision join the trace."""
        parent = INCOMING.get()
        if not tracing.wants(parent):
            return
        now, clock = time.time_ns(), time.perf_counter()
        began, read = (now - int(1e9 * (clock - mark)) for mark in marks)
        said = {"decision": answer.decision_id, "surface": answer.surface, "rung": answer.rung}
        whole = tracing.note("recommend", parent, (began, now), {**said, "stale": answer.stale})
        tracing.note("read", whole, (began, read), {})
        tracing.note("decide", whole, (read, now), {})
        self._logbook.join(answer.decision_id, whole)

    async def _read(self, request: RecommendationRequest, subject: str) -> tuple[SubjectRecord | None, bool]:
        if not request.after:
            return await self._reader.read(subject), False
        after = read_after(request.after, self._settings.namespace)
        self._admission.leave()  # whoever only waits keeps nobody out
        try:
            record, fresh = await self._reader.read_after(subject, after, request.wait_ms / 1000)
        finally:
            self._admission.rejoin()
        return record, not fresh

    def _call(self, request: RecommendationRequest, subject: str, record: SubjectRecord | None) -> Call:
        now_ms = time.time_ns() // 1_000_000
        shard = shard_of(subject, self._settings.shards)
        return Call(
            request=request,
            subject=subject,
            record=record,
            decision_id=make_decision_id(now_ms, shard, self._random.getrandbits(48)),
            now_ms=now_ms,
            staleness_ms=min(self._sync.staleness_ms(), 2**31),
            holdout=self._settings.holdout,
        )

    def _answer(self, call: Call) -> RecommendationAnswer:
        try:
            decided = decide(self._live, call)
        except Exception:  # the ladder's reason to be: whatever breaks above, the last rung answers
            log.exception("decision path failed", decision=call.decision_id)
            decided = None
        if decided is None:
            return self._static(call)
        return self._log(call, decided)

    def _log(self, call: Call, decided: Decided) -> RecommendationAnswer:
        known = call.record or call.remembered
        stores_nothing = known is not None and known.consent == "none"
        if not stores_nothing:
            event = to_event(self._live, call, decided)
            self._logbook.put(event, shard_of(call.subject, self._settings.shards))
        items = answer_items(self._live, decided, len(call.earlier))
        if not stores_nothing:
            self._last_good[call.request.surface] = [item.item_id for item in items]
        sources = decided.scored.found.sources
        self._metrics.note_slots(
            int(np.count_nonzero(decided.slate.explored)),
            [sources[n] for n in decided.slate.indices.tolist()],
        )
        if self._tells:
            log.debug("decided", decision=call.decision_id, surface=call.request.surface, rung=decided.rung)
        self.sample.note(decided.scored, decided.slate, decided.chosen.law)
        version = decided.chosen.document.version
        return self._dressed(call, decided.rung, items, version=version, is_holdout=decided.is_holdout)

    def _static(self, call: Call) -> RecommendationAnswer:
        known = self._last_good.get(call.request.surface, [])
        version = self._live.laws(call.request.surface, call.now_ms).document.version
        items = static_items(self._live, call, known)
        return self._dressed(call, "static", items, version=version, is_holdout=False)

    def _dressed(
        self, call: Call, rung: Rung, items: list[RecommendedItem], *, version: int, is_holdout: bool
    ) -> RecommendationAnswer:
        """Return the answer with its items, under a version of exploration."""
        surface = call.request.surface
        return RecommendationAnswer(
            decision_id=call.decision_id,
            decision=self._signer.sign(call.decision_id, call.subject, call.now_ms + TOKEN_LIFE_MS),
            surface=surface,
            rung=rung,
            items=items,
            exploration_version=version,
            model_version=self._live.model_versions.get(surface, 0),
            state_as_of=call.now_ms - call.staleness_ms,
            staleness_ms=call.staleness_ms,
            holdout=is_holdout,
            knows_visitor=call.record is not None,
        )


def _check_expressions(request: RecommendationRequest) -> None:
    if request.filter is not None:
        parse_filter(request.filter)
    for one in request.boost:
        parse_filter(one.where)
