"""Where a request's processor time goes: the decision path in this process, by stage and by function."""

import cProfile
import pstats
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._live import calls, load_live
from benchmarks._stages import StageClock, Stages
from benchmarks._synthetic import Shop
from serving.decide import Call, answer_items, decide, to_event
from serving.live import LiveState
from state.clients import redis_client
from state.events import encode
from state.keys import subject_key, subject_unit, unit_prefix
from state.partition import shard_of
from state.settings import Settings
from state.subject import decode_subject
from state.tokens import TokenSigner

STAGES: Stages = {
    "visitor": ["serving.decide:asked_of", "serving.decide:visitor_of"],
    "retrieve: sources on clicks, merged and described": [
        "online_models._find_loops:find",
        "online_models._find_loops:merge",
    ],
    "retrieve: content and behaviour": ["online_models.neighbourhoods:Neighbourhoods.around"],
    "retrieve: trends": [
        "serving.sources:CatalogueSources._trending",
        "serving.sources:CatalogueSources._leading",
    ],
    "retrieve: rest": ["serving.decide:retrieve"],
    "features: blend": ["online_models.retrieval:rank"],
    "features: catalogue": ["serving.sources:CatalogueSources.inputs"],
    "features: click model": ["serving.decide:feature_matrix"],
    "features: policy": ["serving.decide:policy_context", "serving.decide:policy_arms"],
    "click model": ["online_models.scorer:CompiledScorer.logits"],
    "policy scores": ["bandits.posterior:Posterior.score_rows"],
    "slate": ["serving.decide:draw_slate"],
}
REQUESTS = 1_500
WARM = 200
TOP = 25


async def decide_profile(settings: Settings, shop: Shop, timer: Callable[[], float]) -> dict[str, Any]:
    """Return microseconds a request by stage, and the functions that take most of them."""
    live = await load_live(settings)
    records = await _records(settings, shop)
    asked = list(calls(settings, records, time.time_ns() // 1_000_000, REQUESTS + WARM))
    _decided(live, asked[:WARM])
    plain = _decided(live, asked[WARM:])
    clock = StageClock(timer)
    with clock.watching(STAGES):
        _path(live, asked[WARM:], TokenSigner(settings.secret()), clock)
    raws = [raw for _, raw in records]
    with clock.stage("decode record"):
        for number in range(REQUESTS):
            decode_subject(raws[number % len(raws)])
    each = {name: round(value, 1) for name, value in clock.each_us(REQUESTS).items()}
    each["all of these"] = round(sum(each.values()), 1)
    each["decide(), unwatched"] = round(plain, 1)
    return {"us_per_request": each, "top": _top(live, asked[WARM:]), "missing": clock.missing}


async def _records(settings: Settings, shop: Shop) -> list[tuple[str, bytes]]:
    users = [f"user-{n:06d}" for n in range(0, shop.sessions, max(1, shop.sessions // 1_000))]
    redis = redis_client(settings, timeout_s=60.0)
    try:
        prefixes = [unit_prefix(settings.namespace, subject_unit(n)) for n in range(settings.shards)]
        keys = [subject_key(prefixes[shard_of(user, settings.shards)], user) for user in users]
        found: list[Any] = [await redis.get(key) for key in keys]
    finally:
        await redis.aclose()
    return [(user, raw) for user, raw in zip(users, found, strict=True) if raw is not None]


def _decided(live: LiveState, asked: Sequence[Call]) -> float:
    started = time.perf_counter()
    for call in asked:
        decide(live, call)
    return 1e6 * (time.perf_counter() - started) / len(asked)


def _path(live: LiveState, asked: Sequence[Call], signer: TokenSigner, clock: StageClock) -> None:
    for call in asked:
        with clock.stage("decide: rest"):
            decided = decide(live, call)
        assert decided is not None
        with clock.stage("log: event"):
            event = to_event(live, call, decided)
        with clock.stage("log: encode"):
            encode(event)
        with clock.stage("answer: items, token"):
            answer_items(live, decided)
            signer.sign(call.decision_id, call.subject, call.now_ms)


def _top(live: LiveState, asked: Sequence[Call]) -> list[dict[str, Any]]:
    profile = cProfile.Profile()
    profile.enable()
    for call in asked:
        decided = decide(live, call)
        if decided is not None:
            encode(to_event(live, call, decided))
    profile.disable()
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = sorted(stats.items(), key=lambda pair: -pair[1][2])[:TOP]
    return [
        {
            "function": f"{path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}:{name}"
            if "/" in path
            else name,
            "calls": round(count / len(asked), 2),
            "own_us": round(1e6 * own / len(asked), 1),
            "cumulative_us": round(1e6 * whole / len(asked), 1),
        }
        for (path, _, name), (_, count, own, whole, _) in rows
    ]
