"""What a subject shard is told."""

from collections.abc import Mapping

from msgspec import Struct

from bandits.hybrid import HybridConfig
from state.rules import HeadRule, SurfaceRules
from state.settings import FeedbackKind, HeadName
from state.tokens import TokenSigner
from stream.forgetting import ErasureRules
from stream.interactions import Caps


class ShardRules(Struct, frozen=True):
    """Everything a shard's logic is told: sizes, times (ms), caps, feedback, surfaces, the policy."""

    shards: int
    lanes: int
    window_ms: int
    wait_ms: int
    lateness_ms: int
    subject_ttl_ms: int
    decision_ttl_ms: int
    block_life_ms: int
    max_sessions: int
    caps: Caps
    feedback: Mapping[str, FeedbackKind]
    attribution: Mapping[str, SurfaceRules]
    heads: Mapping[HeadName, HeadRule]
    signer: TokenSigner
    policy: HybridConfig
    half_lives_s: tuple[float, ...]
    erasure: ErasureRules
