from collections import Counter
from typing import Any

import msgspec
import pytest

from benchmarks._counts import Counted, verdict
from benchmarks._mix import KINDS, Mix, spread
from benchmarks._synthetic import Shop
from state.decoding import decode_event
from state.events import Candidates, Decision, Slot, Versions
from state.partition import shard_of
from state.settings import Settings
from state.tokens import TokenSigner

SETTINGS = Settings(token_secret="x" * 16, seed=3)
NOW = 1_760_000_000_000


@pytest.fixture
def mix() -> Mix:
    template = Decision(
        event_id="d", occurred_at=NOW, session_id="s", surface="home", rung="personal",
        slots=[Slot(f"i{n}", 0.5, 9) for n in range(10)], candidates=Candidates([], "", "", ""), context="",
        features="", arms="", logits="", exploration={}, versions=Versions("p", 1, 1, "f"), seed=1,
    )  # fmt: skip
    return Mix(SETTINGS, [template], users=50)


def test_ten_events_are_four_decisions_four_impressions_a_click_and_a_feedback(mix: Mix) -> None:
    records = list(spread(mix, 200, (NOW, NOW + 60_000)))
    assert Counter(r.kind for r in records) == {
        "decisions": 80,
        "impressions": 80,
        "clicks": 20,
        "feedback": 20,
    }
    assert mix.truth.events == Counter(r.kind for r in records)
    assert mix.truth.total == 200
    assert len(mix.truth.rewarded) == 40
    assert records[0].at_ms == NOW
    assert records[-1].at_ms < NOW + 60_000


def test_every_event_is_one_the_engine_understands_and_goes_to_its_shard(mix: Mix) -> None:
    signer = TokenSigner(SETTINGS.secret())
    decided: set[str] = set()
    for record in [*mix.group(NOW), *mix.last_words(NOW)]:
        event: Any = decode_event(record.kind, record.value, received_at=record.at_ms)
        assert record.partition == shard_of(event.subject, SETTINGS.shards)
        decided |= {event.event_id} if record.kind == "decisions" else set()
        if record.kind in KINDS[1:]:
            assert signer.open(event.decision, event.subject, NOW) in decided
            assert record.kind != "impressions" or len(event.items) == 10


def test_last_words_reach_every_shard(mix: Mix) -> None:
    assert sorted(r.partition for r in mix.last_words(NOW)) == [0, 1, 2, 3]


def test_a_lost_and_a_doubled_event_are_told_apart(mix: Mix) -> None:
    list(mix.group(NOW))
    shards = mix.truth.events | {"closed.outcome": 4, "shown": 4, "rewarded.home": 2}
    whole = Counted(shards, {"outcomes": 4})
    assert whole.is_complete(mix.truth)
    assert set(verdict(whole, mix.truth, {}).values()) == {0}
    lost = verdict(Counted(shards | {"clicks": 0}, {"outcomes": 4}), mix.truth, {("clicks", 0): 1})
    assert (lost["lost"], lost["doubled"], lost["lag"]) == (1, 0, 1)
    assert verdict(Counted(shards | {"shown": 5}, {"outcomes": 4}), mix.truth, {})["doubled"] == 1


def test_a_shop_repeats_with_its_seed() -> None:
    shop = Shop(items=50, sessions=400, now_ms=NOW, seed=1)
    visits = list(shop.visits())
    assert visits == list(msgspec.structs.replace(shop).visits())
    assert 4.0 < sum(len(items) for _, items, _ in visits) / 400 < 6.0
    assert len(list(shop.catalogue())) == 50
    assert all(at <= NOW for _, _, times in visits for at in times)
