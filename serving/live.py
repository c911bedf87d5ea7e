"""Everything a server answers from, in memory: catalogue, session index, trends, models, exploration.

Pure: feed entries and stored values go in; nothing here reads a clock or a socket.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from bandits.diversity import signature_of
from bandits.hybrid import HybridConfig, Posterior, empty_block
from online_models.arrays import VectorArray
from online_models.content import content_vector, projected
from online_models.covisit import CoVisits, CoVisitSettings
from online_models.embeddings import ItemVectors, ItemVectorSettings
from online_models.neighbourhoods import Neighbourhoods
from online_models.ranking import blend_scorer, prior_blend, prior_model, ranking_registry
from online_models.scorer import CompiledScorer
from online_models.session_knn import SessionIndex, SessionKnnSettings
from online_models.trends import Trends
from serving.exploring import Laws
from serving.items import ItemTable
from serving.newcomers import Ledger
from serving.sessions import add_sessions, add_step, follow_entry, newest_at
from serving.shadows import NO_SHADOWS, ShadowLaws
from state.events import Item
from state.exploration import DOCUMENT_TYPES, Budgets, Document, Explorations, Shadows, decode_document
from state.feed import NO_SESSION, Interaction, ItemFeed, ShardFeed
from state.packing import FloatArray, unpack_arrays, unpack_vector
from state.ranking import Rankings

SHARED = "shared"
SEARCH_EFFORT = 96
"""Finds 94 % of the 60 items nearest among 50,000, at half the price of 98 %."""
SETTLED_AT_ONCE = 16
"""Changed items that find what is like them before anything else goes on: some 3 ms of processor."""
LESSON_SESSIONS = 400
"""Sessions, the latest ones, that teach the blend when the live state is loaded."""
Teach = Callable[[int, int, int], None]
"""Takes an interaction (session, row, ms) before the live state does: predict, then learn."""
_item_decoder = msgspec.json.Decoder(Item)
_DEFAULT_LAWS = Laws(Explorations())
_DEFAULT_RANKING = Rankings()


class LiveState:
    """The live state of one namespace.

    Parameters
    ----------
    policy
        Dimensions and priors of the bandit.
    half_lives_s
        Of the trends, shortest first.
    knn, covisits
        Settings of the session index and of co-visitation.
    """

    def __init__(
        self,
        policy: HybridConfig,
        half_lives_s: Sequence[float],
        knn: SessionKnnSettings,
        covisits: CoVisitSettings | None = None,
    ) -> None:
        self.registry = ranking_registry()
        self.fingerprint = self.registry.fingerprint()
        self._prior = prior_model(self.registry).scorer()
        settings = ItemVectorSettings(search_effort=SEARCH_EFFORT)
        self.items = ItemTable(settings.dim)
        self.vectors = ItemVectors(settings)
        self.alike = Neighbourhoods(self.vectors)
        self.scorers: dict[str, CompiledScorer] = {}
        self.model_versions: dict[str, int] = {}
        self._laws: dict[str, Laws] = {}
        self._rankings: dict[str, Rankings] = {}
        self._shadows: dict[str, ShadowLaws] = {}
        self.budget = Budgets()
        self._policy, self._half_lives_s, self._knn = policy, tuple(half_lives_s), knn
        self._covisits = covisits or CoVisitSettings()
        self.watermarks: dict[int, int] = {}
        self.forget_subjects()

    def forget_subjects(self) -> None:
        """Drop what came from subject shards, before they are loaded anew."""
        self.sessions, self.covisits = self.empty_indexes()
        self.blend = prior_blend(self.registry)
        self.blend_scorer = blend_scorer(self.registry, self.blend)
        self.trends = Trends(self._half_lives_s)
        self.posterior = Posterior(self._policy)
        self.items.blocks[:] = 0
        self.ledger = Ledger()

    def empty_indexes(self) -> tuple[SessionIndex, CoVisits]:
        """Return a session index and co-visitation that know nothing yet."""
        return SessionIndex(self._knn), CoVisits(self._covisits)

    def load_trends(self, shard: int, stored: Mapping[bytes, bytes]) -> None:
        """Take in a shard's decayed counts."""
        for name, raw in stored.items():
            state = unpack_vector(raw).reshape(-1, 1 + 2 * len(self._half_lives_s))
            self.trends.put_row(shard, self.items.row(name.decode()), state)

    def load_sessions(
        self, sessions: Mapping[int, tuple[Sequence[str], Sequence[int]]], teach: Teach | None = None
    ) -> None:
        """Take in sessions (hash -> items, times), in the order of their last interactions.

        The latest of them are taken in click by click, and teach the blend as they do.
        """
        ordered = sorted(sessions.items(), key=newest_at)
        bulk = ordered if teach is None else ordered[:-LESSON_SESSIONS]
        indexes = self.sessions, self.covisits
        add_sessions(self.items, bulk, indexes)
        for session, (item_ids, at_ms) in ordered[len(bulk) :]:
            for item_id, at in zip(item_ids, at_ms, strict=True):
                row = self.items.row(item_id)
                if teach is not None:
                    teach(session, row, at)
                add_step(indexes, session, row, at)

    def learn_choice(self, inputs: FloatArray, chosen: int) -> None:
        """Teach the blend that of candidates with inputs (k, f) one was chosen."""
        self.blend.learn(self.registry.expand(inputs), chosen)
        self.blend_scorer = blend_scorer(self.registry, self.blend)

    def put_blocks(self, shard: int, blocks: Mapping[str, bytes]) -> None:
        """Take in a shard's accumulators (field name -> packed block)."""
        items = {name[2:]: unpack_vector(raw) for name, raw in blocks.items() if name != SHARED}
        if SHARED in blocks:
            self.posterior.put_shared(shard, unpack_vector(blocks[SHARED]))
        if items:
            self.posterior.put_items(shard, items)
            rows = [self.items.row(item_id) for item_id in items]
            self.items.blocks[rows] = self.posterior.rows(list(items))

    def forget_blocks(self, shard: int, fields: Sequence[str]) -> None:
        """Take back what a shard contributed to items it has forgotten (field names)."""
        items = [name[2:] for name in fields if name != SHARED]
        if items:
            self.posterior.put_items(shard, dict.fromkeys(items, empty_block(self._policy.context_dim)))
            self.items.blocks[[self.items.row(item_id) for item_id in items]] = self.posterior.rows(items)

    def apply_shard(self, shard: int, entry: ShardFeed, teach: Teach | None = None) -> None:
        """Apply one commit of a subject shard; its bandit blocks are fetched apart."""

        def count(step: Interaction, row: int) -> bool:
            if teach is not None and step.session != NO_SESSION:
                teach(step.session, row, step.at_ms)
            self.trends.add(row, step.at_ms, step.interest)
            return True

        follow_entry(self.items, entry, (self.sessions, self.covisits), count)
        for step in entry.history:  # its sessions wait until they can be taken in by time (serving/past.py)
            self.trends.add(self.items.row(step.item_id), step.at_ms, step.interest)
        if entry.exploring is not None:
            self.ledger.apply(shard, entry.exploring)
        self.watermarks[shard] = max(entry.watermark, self.watermarks.get(shard, 0))

    def apply_items(self, entry: ItemFeed) -> None:
        """Apply catalogue changes."""
        for item_id, raw in entry.items:
            if raw is None:
                self.remove_item(item_id)
            else:
                self.put_item(raw)
        self.settle(SETTLED_AT_ONCE)

    def settle(self, most: int) -> int:
        """Let at most so many changed items find what is like them; returns how many are left."""
        return self.alike.settle(most)

    def put_item(self, raw: bytes) -> None:
        """Take in one catalogue item; it can be retrieved from now on."""
        item = _item_decoder.decode(raw)
        row = self.items.put(item)
        vector = item_vector(item, self.vectors.settings.dim)
        if not (item.available and vector.any()):
            self.alike.remove(row)
        elif row not in self.vectors or not np.array_equal(vector, self.items.vectors[row]):
            self.alike.put(row, vector)
        self.items.vectors[row] = vector
        self.items.signatures[row] = signature_of(vector, int(self.items.hashes[row]))

    def remove_item(self, item_id: str) -> None:
        """Take one item out of the catalogue and of everything that could bring it back."""
        row = self.items.remove(item_id)
        if row is not None:
            self.alike.remove(row)

    def put_model(self, surface: str, raw: bytes) -> None:
        """Take in a click model snapshot; one learnt over other features is left aside."""
        arrays, document = unpack_arrays(raw)
        scorer = CompiledScorer.from_snapshot(arrays, document)
        if scorer.fingerprint == self.fingerprint:
            self.scorers[surface], self.model_versions[surface] = scorer, int(document["steps"])

    def scorer(self, surface: str) -> CompiledScorer:
        """Return a surface's click model; the prior one where nothing was learnt yet."""
        return self.scorers.get(surface, self._prior)

    def put_control(self, name: str, raw: bytes) -> None:
        """Take in a control document."""
        kind, _, key = name.partition("/")
        if kind not in DOCUMENT_TYPES:
            return  # of a later version of the engine
        document = decode_document(name, raw)
        if isinstance(document, Explorations):
            self._laws[key] = Laws(document)
        elif isinstance(document, Rankings):
            self._rankings[key] = document
        elif isinstance(document, Shadows):
            self._shadows[key] = ShadowLaws(document)
        elif key == "all":
            self.budget = document

    async def count_new(self, since_ms: int) -> int:
        """Return how many available items were published at or after a time, ms."""
        return self.items.count_since(since_ms)

    @property
    def watched(self) -> list[str]:
        """Surfaces with shadow policies."""
        return sorted(surface for surface, shadows in self._shadows.items() if shadows)

    @property
    def surfaces(self) -> list[str]:
        """Surfaces somebody has said something of."""
        return sorted(self._laws)

    def laws(self, surface: str, now_ms: int) -> Laws:
        """Return the laws in force on a surface at a time."""
        return self._laws.get(surface, _DEFAULT_LAWS).at(now_ms)

    def shadows(self, surface: str) -> ShadowLaws:
        """Return the shadow policies that watch a surface."""
        return self._shadows.get(surface, NO_SHADOWS)

    def document(self, name: str) -> Document:
        """Return the document last said under a name, whether or not its time is up."""
        kind, _, key = name.partition("/")
        if kind == "ranking":
            return self.ranking(key)
        if kind == "shadows":
            return self.shadows(key).document
        return self.budget if kind == "budget" else self._laws.get(key, _DEFAULT_LAWS).document

    def ranking(self, surface: str) -> Rankings:
        """Return how slates of a surface are put together."""
        return self._rankings.get(surface, _DEFAULT_RANKING)


def item_vector(item: Item, dim: int) -> VectorArray:
    """Return an item's content vector (dim,): the supplied embedding where there is one."""
    if item.embedding is not None:
        return projected(item.embedding, dim)
    described = {"title": item.title, "categories": item.categories, **item.attributes}
    return content_vector({k: v for k, v in described.items() if v is not None}, dim)
