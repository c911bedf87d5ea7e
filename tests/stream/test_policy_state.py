"""What a shard keeps of its policy: blocks that fade in event time, and the prior it has found."""

import base64
from typing import Any

import numpy as np
import pytest

from bandits.hybrid import Posterior, packed_size
from bandits.priors import prior_of
from bandits.ranking import ARM_DIM, CONTEXT_DIM, ranking_policy, seal
from state.feed import decode_shard_feed
from state.keys import bandit_key, subject_key
from state.packing import FloatArray, unpack_vector
from state.retention import SWEEP_MS
from state.subject import SubjectRecord, encode_subject
from tests.stream.folding import AT, Folded, click, decision, impression, profile, shard, unsealed
from tests.stream.test_shard_users import PASSED_ON

HOUR_S = 3600.0
LIVES: dict[str, Any] = {"shared_life_s": 30 * HOUR_S, "item_life_s": 10 * HOUR_S, "user_life_s": 20 * HOUR_S}


def blocks(folded: Folded) -> dict[str, FloatArray]:
    return {name.decode(): unpack_vector(unsealed(raw)) for name, raw in folded.hash("bandit").items()}


def taught(folded: Folded, at: int, first: int, count: int = 3) -> Folded:
    """Close decisions about a, b and c, in which b is clicked, at about a time."""
    for n in range(first, first + count):
        folded.fold([decision(number=n, at=at + n), impression(at=at + n, decision=n)], at)
        folded.fold([click("b", at=at + 1000 + n, decision=n)], at)
    folded.fold([], at + 700_000)
    return folded


def test_blocks_carry_no_time_where_nothing_fades() -> None:
    held = blocks(taught(shard(), AT, 1))
    assert len(held["i:a"]) == packed_size(CONTEXT_DIM)
    assert len(held["shared"]) == packed_size(CONTEXT_DIM * ARM_DIM)


def test_each_block_fades_by_its_own_life_when_it_learns_again() -> None:
    folded = taught(shard(**LIVES), AT, 1)
    later = AT + int(10 * HOUR_S * 1000)
    taught(folded, later, 11)
    held, elapsed = blocks(folded), later - AT
    for name, life_s in (("shared", LIVES["shared_life_s"]), ("i:b", LIVES["item_life_s"])):
        slots = 9 if name == "shared" else 3
        assert held[name][0] == pytest.approx(slots * (1 + np.exp(-elapsed / (1000 * life_s))))
        assert held[name][-1] == later + 700_000
    user = np.frombuffer(unsealed(folded.record("u1").bandit))
    assert user[0] == pytest.approx(9 * (1 + np.exp(-0.5)))


def test_a_login_adds_a_sessions_block_as_of_one_time() -> None:
    """What the session learnt ten hours before the user did has faded by then."""
    one, two = np.zeros(packed_size(ARM_DIM) + 1), np.zeros(packed_size(ARM_DIM) + 1)
    one[0], one[-1], two[0], two[-1] = 8.0, AT, 2.0, AT + 20 * HOUR_S * 1000
    folded = shard(**LIVES)
    for at, block in ((AT, two), (AT + 1, one)):
        carried = base64.b64encode(encode_subject(SubjectRecord(bandit=seal(block.tobytes())))).decode()
        folded.fold([profile(at=at, carried=carried, headers=PASSED_ON)], AT)
    joined = np.frombuffer(unsealed(folded.record("u1").bandit))
    assert joined[0] == pytest.approx(8.0 * np.exp(-1.0) + 2.0)
    assert joined[-1] == two[-1]


def test_fading_divides_by_the_speed_up() -> None:
    folded = taught(shard(**LIVES, speed_up=10.0, attribution_window_s=6000.0), AT, 1)
    taught(folded, AT + int(HOUR_S * 1000), 11)
    assert blocks(folded)["i:b"][0] == pytest.approx(3 * (1 + np.exp(-1.0)))


@pytest.mark.parametrize("changes", [{}, LIVES], ids=["kept", "fading"])
def test_a_shard_loaded_anew_between_any_two_commits_ends_in_the_same_bytes(
    changes: dict[str, Any],
) -> None:
    """Fading and the fit of the prior are functions of what is stored and of the watermark."""
    through, anew = shard(**changes), shard(**changes)
    for n in range(4):
        at = AT + n * 2 * SWEEP_MS
        taught(through, at, 10 * n + 1)
        anew = shard(anew.store, **changes)
        taught(anew, at, 10 * n + 1)
    assert through.store.state() == anew.store.state()
    assert "prior" in blocks(through)


def test_the_prior_is_found_once_an_hour_and_told_to_servers() -> None:
    folded = taught(shard(), AT, 1)
    assert "prior" not in blocks(folded)
    folded.fold([], AT + 2 * SWEEP_MS)
    prior = blocks(folded)["prior"]
    assert prior[0] == 9.0
    assert decode_shard_feed(folded.feeds[-1]).bandit_shared
    posterior = Posterior(ranking_policy())
    posterior.put_prior(0, prior)
    assert posterior.config.item_variance == prior[1 + 1] != ranking_policy().item_variance


def test_readers_take_the_mean_of_what_shards_have_found_by_their_slots() -> None:
    posterior, config = Posterior(ranking_policy()), ranking_policy()
    low, high = (prior_of(config, 1.0) * factor for factor in (0.5, 4.0))
    posterior.put_prior(3, np.r_[10.0, low[1:]])
    posterior.put_prior(1, np.r_[30.0, high[1:]])
    wished = config.item_variance * 0.5**0.25 * 4.0**0.75
    assert posterior.config.item_variance == pytest.approx(wished)
    posterior.drop_shard(1)
    assert posterior.config.item_variance == pytest.approx(config.item_variance * 0.5)
    posterior.put_prior(3, np.zeros(3))
    assert posterior.config == config


def test_what_was_learnt_of_other_arms_is_neither_read_nor_added_to() -> None:
    """A stored block says what its numbers mean; one of another version is as if it were not there."""
    old, anew = taught(shard(), AT, 1), shard()
    key, store = bandit_key(old.logic.place.prefix), old.store
    store.hashes[key] = {name: b"another." + raw[8:] for name, raw in store.hashes[key].items()}
    user = old.record("u1")
    user.bandit = b"another." + user.bandit[8:]
    store.values[subject_key(old.logic.place.prefix, "u1")] = encode_subject(user)
    loaded = shard(store)
    for folded in (loaded, anew):
        taught(folded, AT + 10**6, 11)
    held, wished = blocks(loaded), blocks(anew)
    assert {name: held[name].tolist() for name in wished} == {name: wished[name].tolist() for name in wished}
