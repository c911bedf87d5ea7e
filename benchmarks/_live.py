"""The live state of a server inside this process, and decisions made from it as the server makes them."""

import random
from collections.abc import Iterator, Sequence

from benchmarks._store import SURFACE
from serving.app import make_live
from serving.decide import Call, decide, to_event
from serving.live import LiveState
from serving.requests import RecommendationRequest
from serving.sync import Sync
from state.clients import redis_client
from state.events import Decision
from state.partition import shard_of
from state.settings import Settings
from state.subject import decode_subject
from state.tokens import make_decision_id

SLOTS = 10


async def load_live(settings: Settings) -> LiveState:
    """Return the live state as a server loads it from the store."""
    live = make_live(settings)
    redis = redis_client(settings, timeout_s=60.0)
    try:
        await Sync(settings, redis, live).load()
    finally:
        await redis.aclose()
    return live


def calls(
    settings: Settings, records: Sequence[tuple[str, bytes]], now_ms: int, count: int
) -> Iterator[Call]:
    """Yield requests of visitors, each with its record decoded anew, as it comes from the store."""
    rng = random.Random(settings.seed)
    for _ in range(count):
        user, raw = records[rng.randrange(len(records))]
        decision_id = make_decision_id(now_ms, shard_of(user, settings.shards), rng.getrandbits(48))
        request = RecommendationRequest(session_id=f"session-{user}", user_id=user, surface=SURFACE, k=SLOTS)
        yield Call(request, user, decode_subject(raw), decision_id, now_ms, 10, 0.0)


def logged(live: LiveState, call: Call) -> Decision:
    """Return the decision of one request as the server logs it."""
    decided = decide(live, call)
    assert decided is not None, "the catalogue is empty"
    return to_event(live, call, decided)
