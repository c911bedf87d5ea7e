"""Which unit a topic-partition belongs to, and the logic each kind of unit runs."""

from collections.abc import Callable

from bandits.ranking import Lives, ranking_policy
from online_models.ranking import ranking_registry
from state.erasure import ErasureKeys
from state.events import SUBJECT_KINDS
from state.keys import CONTROL, item_unit, lane_unit, subject_unit, unit_prefix
from state.retention import block_life_ms
from state.settings import Settings
from state.tokens import TokenSigner
from stream.catalogue import CatalogueLogic
from stream.control import ControlLogic
from stream.effects import Place
from stream.folder import UnitLogic
from stream.forgetting import ErasureRules
from stream.interactions import Caps
from stream.lane import LaneLogic
from stream.shard import ShardLogic
from stream.shard_rules import ShardRules

KINDS = (*SUBJECT_KINDS, "items", "outcomes", "directives", "control")
"""Topic kinds a worker reads."""


def unit_of(kind: str, partition: int) -> str:
    """Return the unit that folds a topic-partition."""
    if kind in SUBJECT_KINDS:
        return subject_unit(partition)
    if kind in LaneLogic.kinds:
        return lane_unit(partition)
    return item_unit(partition) if kind == "items" else CONTROL


def logic_maker(settings: Settings, unit: str, partition: int) -> Callable[[], UnitLogic]:
    """Return what makes a unit's logic anew."""
    place = Place(unit_prefix(settings.namespace, unit), unit, partition)
    if unit.isdigit():
        rules = shard_rules(settings)
        return lambda: ShardLogic(place, rules)
    if unit == CONTROL:
        return lambda: ControlLogic(place, settings.dwell_ms, settings.lanes)
    if unit.startswith("i"):
        return lambda: CatalogueLogic(place)
    registry = ranking_registry()
    return lambda: LaneLogic(place, registry)


def shard_rules(settings: Settings) -> ShardRules:
    """Return what a subject shard is told of the settings."""
    return ShardRules(
        shards=settings.shards,
        lanes=settings.lanes,
        window_ms=settings.window_ms,
        wait_ms=settings.decision_wait_ms,
        lateness_ms=settings.lateness_ms,
        # A record knows its subject's decisions, and so outlives them.
        subject_ttl_ms=int(max(settings.subject_ttl_s, settings.decision_ttl_s) * 1000),
        decision_ttl_ms=int(settings.decision_ttl_s * 1000),
        block_life_ms=block_life_ms(settings),
        max_sessions=max(1, settings.max_sessions // settings.shards),
        caps=Caps(settings.hidden_cap, settings.seen_cap, settings.idle_ms),
        feedback=settings.feedback,
        attribution=settings.attribution,
        heads=settings.heads,
        signer=TokenSigner(settings.secret()),
        policy=ranking_policy(Lives(*settings.policy_lives_ms)),
        half_lives_s=settings.trend_half_lives_s,
        erasure=ErasureRules(
            ErasureKeys(settings.erasure_key()),
            int(settings.rebuild_within_s * 1000),
            int(settings.raw_retention_s * 1000),
        ),
    )
