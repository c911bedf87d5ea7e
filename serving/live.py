"""Everything a server answers from, in memory: catalogue, session index, trends, models, exploration.

Pure: feed entries and stored values go in; nothing here reads a clock or a socket.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import msgspec
import numpy as np
import structlog

from bandits.diversity import signature_of
from bandits.hybrid import HybridConfig, Posterior, empty_block
from bandits.ranking import unseal
from online_models.arrays import VectorArray
from online_models.behaviour import BehaviourNeighbours
from online_models.blend import BlendSettings
from online_models.content import content_vector, projected
from online_models.covisit import CoVisits
from online_models.embeddings import ItemVectors, ItemVectorSettings
from online_models.heads import FORMAT, HeadModels, HeadsScorer, Ranker
from online_models.neighbourhoods import Neighbourhoods
from online_models.ranking import ClickInputs, prior_model, ranking_registry
from online_models.retrieval import Recommender, RecommenderSettings
from online_models.segment_trends import SegmentTrends
from online_models.session_knn import SessionIndex
from online_models.trends import Trends
from serving.exploring import Laws
from serving.filters import Filters
from serving.items import IntArray, ItemTable
from serving.merchandising import NO_RULES, SurfaceRules
from serving.newcomers import Ledger
from serving.sessions import add_sessions, follow_entry, newest_at
from serving.shadows import NO_SHADOWS, ShadowLaws
from serving.sources import CatalogueSources, Likeness, where_of
from state.events import Item, Weights
from state.exploration import DOCUMENT_TYPES, Budgets, Document, Explorations, Shadows, decode_document
from state.feed import NO_SESSION, Interaction, ItemFeed, ShardFeed
from state.merchandising import Merchandising
from state.model_documents import ModelPolicy
from state.packing import to_base64, unpack_arrays, unpack_vector
from state.ranking import Rankings

log = structlog.get_logger(__name__)
SHARED, PRIOR = "shared", "prior"
CAUGHT_UP_AT_ONCE = 256
"""Items' rows of the policy that one commit makes again where they fade or the prior has changed."""
SEARCH_EFFORT = 96
"""Finds 94 % of the 60 items nearest among 50,000, at half the price of 98 %."""
SETTLED_AT_ONCE = 16
"""Changed items that find what is like them before anything else goes on: some 3 ms of processor."""
LOADED_AT_ONCE = 400
"""Items, those clicked most, that find what is treated like them when the live state is loaded: some .2 s."""
LESSON_SESSIONS = 400
"""Sessions, the latest ones, that teach the blend when the live state is loaded."""
LEARN_EARLY = 1
"""While there have been few lessons, one interaction in so many teaches the blend."""
EARLY_LESSONS = 10_000
"""So many are few: three seconds of processor in all."""
PER_SOURCE = 40
"""Candidates of each source that lives on clicks: the others want places among a decision's, too."""
_item_decoder = msgspec.json.Decoder(Item)
_DEFAULT_LAWS = Laws(Explorations())
_DEFAULT_RANKING = Rankings()


class LiveState:
    """The live state of one namespace.

    Parameters
    ----------
    policy
        Dimensions and priors of the bandit.
    retrieval
        Of the recommender; its half-lives are those of the trends.
    """

    def __init__(self, policy: HybridConfig, retrieval: RecommenderSettings) -> None:
        self.registry = ranking_registry()
        self.fingerprint = self.registry.fingerprint()
        self._prior = HeadsScorer.from_snapshot(*HeadModels(prior_model(self.registry)).snapshot())
        self._prior_ranker = Ranker([self._prior], {})
        settings = ItemVectorSettings(search_effort=SEARCH_EFFORT)
        self.items = ItemTable(settings.dim)
        self.filters = Filters(self.items)
        self.vectors = ItemVectors(settings)
        self.alike = Neighbourhoods(self.vectors)
        self.behaviour = BehaviourNeighbours(ItemVectorSettings(dim=retrieval.embedding.dim, built_at=0))
        self._lanes: dict[str, dict[int, HeadsScorer]] = {}
        self._rankers: dict[str, Ranker] = {}
        self._weights: dict[str, Weights] = {}
        self._prior_weights = logged_weights(self._prior_ranker)
        self.model_versions: dict[str, int] = {}
        self._laws: dict[str, Laws] = {}
        self._rankings: dict[str, Rankings] = {}
        self._shadows: dict[str, ShadowLaws] = {}
        self._rules: dict[str, SurfaceRules] = {}
        self.budget = Budgets()
        self.policies: dict[str, ModelPolicy] = {}
        self._policy, self._retrieval = policy, retrieval
        self.watermarks: dict[int, int] = {}
        self.erasures = 0
        self.forget_subjects()
        self.click_inputs = ClickInputs(self.registry, self.recommender.names)

    def forget_subjects(self) -> None:
        """Drop what came from subject shards, before they are loaded anew."""
        self.trends = Trends(self._retrieval.half_lives_s)
        half_lives = self._retrieval.half_lives_s
        self.groups = SegmentTrends(half_lives[len(half_lives) // 2])
        self.recommender = self.fresh_recommender()
        self.behaviour.clear()
        self.posterior = Posterior(self._policy)
        self.items.blocks[:] = 0
        self.ledger = Ledger(self.items)
        self.erasures += 1  # there may have been one while the feed was not read

    def fresh_recommender(self) -> Recommender:
        """Return a recommender of this catalogue that has met no click yet."""
        fresh = Recommender(self._retrieval, self.sources())
        fresh.reserve(len(self.items))
        return fresh

    def sources(self) -> CatalogueSources:
        """Return what this catalogue adds to the sources that live on clicks."""
        likeness = Likeness(self.alike, self.behaviour)
        return CatalogueSources(self.items, likeness, self.trends, self.groups)

    def take_recommender(self, fresh: Recommender) -> None:
        """Answer from another recommender, whose vectors have nothing to do with those before."""
        self.recommender = fresh
        self.behaviour.renew()
        self.note_moved(fresh.embedding.met())

    def note_moved(self, rows: IntArray) -> None:
        """Let items that clicks have moved wait for `settle_moved`, those that may be shown."""
        self.behaviour.note(rows[self.items.available[rows]])

    @property
    def sessions(self) -> SessionIndex:
        """The recommender's session index."""
        return self.recommender.index

    @property
    def covisits(self) -> CoVisits:
        """The recommender's counts of items seen together."""
        return self.recommender.covisits

    def load_trends(self, shard: int, stored: Mapping[bytes, bytes]) -> None:
        """Take in a shard's decayed counts."""
        for name, raw in stored.items():
            state = unpack_vector(raw).reshape(-1, 1 + 2 * len(self._retrieval.half_lives_s))
            self.trends.put_row(shard, self.items.row(name.decode()), state)

    def load_sessions(self, sessions: Mapping[int, tuple[Sequence[str], Sequence[int]]]) -> None:
        """Take in sessions (hash -> items, times), in the order of their last interactions.

        The latest of them teach the blend as the change feed would have.
        """
        ordered = sorted(sessions.items(), key=newest_at)
        add_sessions(self.items, ordered[:-LESSON_SESSIONS], self.recommender, lessons=False)
        self.note_moved(self.recommender.embedding.met())
        self.settle_moved(LOADED_AT_ONCE)  # lessons should meet what requests will
        add_sessions(self.items, ordered[-LESSON_SESSIONS:], self.recommender, lessons=True)
        self.note_moved(self.recommender.embedding.met())

    def put_blocks(self, shard: int, blocks: Mapping[str, bytes]) -> None:
        """Take in a shard's accumulators (field name -> sealed block); those of other arms are left aside."""
        opened = {name: unseal(raw) for name, raw in blocks.items()}
        known = {name: unpack_vector(raw) for name, raw in opened.items() if raw is not None}
        items = {name[2:]: block for name, block in known.items() if name.startswith("i:")}
        if SHARED in known:
            self.posterior.put_shared(shard, known[SHARED])
        if PRIOR in known:
            self.posterior.put_prior(shard, known[PRIOR])
        if items:
            self.posterior.put_items(shard, items)
            rows = [self.items.row(item_id) for item_id in items]
            self.items.blocks[rows] = self.posterior.rows(list(items))

    def forget_blocks(self, shard: int, fields: Sequence[str]) -> None:
        """Take back what a shard contributed to items it has forgotten (field names)."""
        items = [name[2:] for name in fields if name.startswith("i:")]
        if items:
            self.posterior.put_items(shard, dict.fromkeys(items, empty_block(self._policy.context_dim)))
            self.items.blocks[[self.items.row(item_id) for item_id in items]] = self.posterior.rows(items)

    def apply_shard(self, shard: int, entry: ShardFeed) -> None:
        """Apply one commit of a subject shard; its bandit blocks are fetched apart."""
        moved: list[int] = []

        def take(step: Interaction, row: int) -> None:
            if step.session != NO_SESSION:  # the blend learns which candidate was taken before all else does
                self.recommender.add(step.session, row, step.at_ms)
                moved.append(row)
            self.trends.add(row, step.at_ms, step.interest)
            self._count_group(step, row)

        self.erasures += entry.erasures
        follow_entry(self.items, entry, self.recommender, take)
        self.note_moved(np.array(moved, np.int64))
        for step in entry.history:  # its sessions wait until they can be taken in by time (serving/past.py)
            self.trends.add(self.items.row(step.item_id), step.at_ms, step.interest)
        if entry.exploring is not None:
            self.ledger.apply(shard, entry.exploring)
        self.watermarks[shard] = max(entry.watermark, self.watermarks.get(shard, 0))
        self.posterior.advance(self.watermarks[shard], most=CAUGHT_UP_AT_ONCE)

    def _count_group(self, step: Interaction, row: int) -> None:
        where = where_of(step.surface, step.facets)
        self.groups.add([*where.surface, *where.facets], row, step.at_ms, step.interest)

    def recall(self, entry: ShardFeed) -> None:
        """Count in groups what an entry said that is loaded already: of groups only feeds tell."""
        for step in entry.interactions:
            self._count_group(step, self.items.row(step.item_id))

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

    def settle_moved(self, most: int) -> int:
        """Let at most so many items that clicks have moved find anew what is treated like them."""
        return self.behaviour.settle(self.recommender.embedding, most)

    def put_item(self, raw: bytes) -> None:
        """Take in one catalogue item; it can be retrieved from now on."""
        item = _item_decoder.decode(raw)
        row = self.items.put(item)
        self.recommender.reserve(row + 1)
        vector = item_vector(item, self.vectors.settings.dim)
        if not item.available:
            self.behaviour.remove(row)
        elif row not in self.behaviour.vectors:
            self.behaviour.note([row])
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
            self.behaviour.remove(row)

    def keep_items(self, item_ids: Set[str]) -> None:
        """Take out whatever the catalogue no longer holds: nobody told of it while the feed was not read."""
        for row in np.flatnonzero(self.items.available[: len(self.items)]).tolist():
            if self.items.ids[row] not in item_ids:
                self.remove_item(self.items.ids[row])

    def put_model(self, surface: str, raw: bytes, lane: int = 0) -> None:
        """Take in a lane's models of a surface; those learnt over other features are left aside."""
        arrays, document = unpack_arrays(raw)
        if document.get("format") == FORMAT and document["fingerprint"] == self.fingerprint:
            self._lanes.setdefault(surface, {})[lane] = HeadsScorer.from_snapshot(arrays, document)
            self._rank(surface)

    def _rank(self, surface: str) -> None:
        lanes = [scorer for _, scorer in sorted(self._lanes.get(surface, {}).items())]
        policy = self.policies.get(surface)
        ranker = Ranker(lanes or [self._prior], policy.weights() if policy else {})
        self._rankers[surface] = ranker
        self._weights[surface] = logged_weights(ranker)
        if lanes:
            self.model_versions[surface] = ranker.steps

    def scorer(self, surface: str) -> Ranker:
        """Return what a surface ranks by; the prior model where nothing was learnt yet."""
        return self._rankers.get(surface, self._prior_ranker)

    def weights(self, surface: str) -> Weights:
        """Return the linear weights a surface ranks by as decisions log them: packed once, not for each."""
        return self._weights.get(surface, self._prior_weights)

    def put_control(self, name: str, raw: bytes) -> None:
        """Take in a control document; one that cannot be read leaves the one before it in force."""
        kind, _, key = name.partition("/")
        if kind not in DOCUMENT_TYPES:
            return  # of a later version of the engine
        try:
            document = decode_document(name, raw)
        except msgspec.DecodeError as error:
            log.warning("control document not understood: the one before it stays", name=name, why=str(error))
            return
        if isinstance(document, Explorations):
            self._laws[key] = Laws(document)
        elif isinstance(document, Rankings):
            self._rankings[key] = document
        elif isinstance(document, Merchandising):
            self._rules[key] = SurfaceRules(document)
        elif isinstance(document, Shadows):
            self._shadows[key] = ShadowLaws(document)
        elif isinstance(document, Budgets):
            self.budget = document
        elif isinstance(document, ModelPolicy):
            self.policies[key] = document
            self._rank(key)

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
        if kind == "rules":
            return self.rules(key).document
        return self.budget if kind == "budget" else self._laws.get(key, _DEFAULT_LAWS).document

    def rule_documents(self) -> dict[str, Merchandising]:
        """Return the rules of every surface that has any."""
        return {surface: rules.document for surface, rules in sorted(self._rules.items())}

    def rules(self, surface: str) -> SurfaceRules:
        """Return the rules of a surface."""
        return self._rules.get(surface, NO_RULES)

    def ranking(self, surface: str) -> Rankings:
        """Return how slates of a surface are put together."""
        return self._rankings.get(surface, _DEFAULT_RANKING)


def logged_weights(ranker: Ranker) -> Weights:
    """Return the linear part of what candidates are ranked by, as it is logged."""
    features, products = ranker.linear()
    return Weights(
        to_base64(features),
        list(products),
        to_base64(np.array([*products.values()])),
        whole=ranker.is_linear,
    )


def served_retrieval(settings: RecommenderSettings, learn_early: int = LEARN_EARLY) -> RecommenderSettings:
    """Return a recommender's settings as a server wants them: soon taught by the little it has seen."""
    return replace(
        settings,
        blend=BlendSettings(prior=300.0),
        per_source=PER_SOURCE,
        learn_early=learn_early,
        learn_every=max(settings.learn_every, learn_early),
        early_lessons=EARLY_LESSONS,
    )


def item_vector(item: Item, dim: int) -> VectorArray:
    """Return an item's content vector (dim,): the supplied embedding where there is one."""
    if item.embedding is not None:
        return projected(item.embedding, dim)
    described = {"title": item.title, "categories": item.categories, **item.attributes}
    return content_vector({k: v for k, v in described.items() if v is not None}, dim)
