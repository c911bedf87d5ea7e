"""The scoreboard: what shadow policies would have earned beside the one in force, at any time."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from bandits.ope.intervals import Estimate
from bandits.ope.shadow import TUNED_AT, ShadowEvaluation
from serving.preview import LEVEL, Interval
from state.changing import Wish
from state.control_reads import read_current
from state.decoding import Refusal
from state.evidence import Sight, read_sights
from state.exploration import Explorations, Shadow, Shadows, in_force
from state.packing import FloatArray
from state.settings import Settings

Sights = Mapping[str, Sequence[tuple[Sight, Mapping[str, FloatArray]]]]


class ShadowScore(Struct, frozen=True, omit_defaults=True):
    """One shadow policy.

    Attributes
    ----------
    shadow
        Its name.
    policy
        What it is, as declared.
    decisions
        Closed decisions that it watched under the exploration in force.
    since, until
        Event times of the first and last of them, ms; 0 before the first.
    live, reward
        Reward a decision of the policy in force and of the shadow, on the same decisions; the intervals hold
        the truth at every look. None where the log cannot tell.
    lift
        How much more the shadow earns.
    effective
        Effective sample size of its weights.
    is_better
        Whether its interval lies above the one in force: it may be promoted.
    reasons
        Why nothing is shown, one sentence each.
    """

    shadow: str
    policy: Shadow
    decisions: int
    since: int = 0
    until: int = 0
    live: Interval | None = None
    reward: Interval | None = None
    lift: Interval | None = None
    effective: float = 0.0
    is_better: bool = False
    reasons: list[str] = []


class ScoreboardAnswer(Struct, frozen=True):
    """The shadows of one surface, the best first; ``version`` is that of the exploration in force."""

    surface: str
    as_of: int
    version: int
    shadows: list[ShadowScore]


class Promotion(Struct, forbid_unknown_fields=True):
    """Makes a shadow the policy in force; ``forced`` although its interval is not above, and needs a why."""

    shadow: str
    changed_by: Annotated[str, Meta(max_length=128)] = ""
    why: Annotated[str, Meta(max_length=512)] = ""
    forced: bool = False


class ScoreboardReader:
    """Reads what lanes have folded of shadows.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._settings, self._redis = settings, redis

    async def read(self, surface: str) -> ScoreboardAnswer:
        """Return the scoreboard of a surface as of now."""
        now_ms = time.time_ns() // 1_000_000
        declared = await read_current(self._redis, self._settings, f"shadows/{surface}")
        latest = await read_current(self._redis, self._settings, f"exploration/{surface}")
        assert isinstance(declared, Shadows)
        assert isinstance(latest, Explorations)
        version = in_force(latest, now_ms).version
        sights = await read_sights(self._redis, self._settings, surface)
        return ScoreboardAnswer(surface, now_ms, version, scores(declared, sights, version))


def scores(declared: Shadows, sights: Sights, exploration: int) -> list[ShadowScore]:
    """Return the score of every declared shadow under the exploration in force, the best first."""
    told = [_score(name, declared, sights.get(name, ()), exploration) for name in declared.policies]
    return sorted(told, key=lambda one: -(one.lift.value if one.lift is not None else float("-inf")))


def _score(
    name: str, declared: Shadows, sights: Sequence[tuple[Sight, Mapping[str, FloatArray]]], exploration: int
) -> ShadowScore:
    policy, wanted = declared.policies[name], (declared.version, exploration)
    mine = [(sight, arrays) for sight, arrays in sights if sight.versions == wanted]
    if not mine:
        return ShadowScore(name, policy, 0, reasons=["no decision of these versions has closed yet"])
    sums = ShadowEvaluation()
    for _, arrays in mine:
        sums.merge(ShadowEvaluation.restore(arrays))
    since, until = min(sight.since for sight, _ in mine), max(sight.until for sight, _ in mine)
    standing, score = sums.standing(), ShadowScore(name, policy, sums.n, since, until)
    score = replace(score, effective=standing.diagnostics.effective, reasons=list(standing.reasons))
    if standing.reasons:
        return score
    return replace(
        score,
        live=_interval(standing.live),
        reward=_interval(standing.shadow),
        lift=_interval(standing.lift),
        is_better=standing.is_better(LEVEL),
    )


def _interval(estimate: Estimate) -> Interval:
    return Interval(estimate.value, *estimate.confidence_sequence(LEVEL, TUNED_AT))


def promotion_wish(board: ScoreboardAnswer, data: Promotion) -> Wish:
    """Return the change that promotes a shadow.

    Raises
    ------
    Refusal
        If it may not be promoted.
    """
    given = _promoted(board, data.shadow, forced=data.forced)
    why = data.why or f"shadow {data.shadow} earns more"
    return Wish(given=given, changed_by=data.changed_by, why=why, forced=data.forced)


def _promoted(board: ScoreboardAnswer, shadow: str, *, forced: bool) -> dict[str, Any]:
    """Return the exploration settings that make a shadow the policy in force.

    Raises
    ------
    Refusal
        If there is no such shadow, it does not rank by the policy's scores, or its interval does not lie
        above the one in force and nobody forces it.
    """
    one = next((score for score in board.shadows if score.shadow == shadow), None)
    if one is None:
        known = ", ".join(score.shadow for score in board.shadows) or "nothing: declare one first"
        raise Refusal("unknown_shadow", "shadow", shadow, f"one of {known}")
    if one.policy.ranks_by != "policy":
        wished = "a shadow that ranks by policy: no exploration setting ranks otherwise"
        raise Refusal("not_promotable", "shadow", shadow, wished)
    if not one.is_better and not forced:
        raise Refusal("not_better", "shadow", shadow, f"{_lacks(one)}, or a forced promotion with a why")
    return one.policy.settings()


def _lacks(one: ShadowScore) -> str:
    if one.reward is None or one.live is None:
        return f"a log that can tell ({'; '.join(one.reasons)})"
    return (
        f"an interval above the one in force: {one.reward.low:.4g} to {one.reward.high:.4g} and "
        f"{one.live.low:.4g} to {one.live.high:.4g} overlap after {one.decisions:,} decisions"
    )
