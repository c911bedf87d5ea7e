"""A server that followed the feed and one that loaded the store give the same answers."""

import msgspec
import numpy as np
import pytest

from bandits.ranking import ARM_DIM, seal
from online_models.heads import HeadModels
from online_models.ranking import prior_model, ranking_registry
from online_models.sources import BEHAVIOUR, Query
from serving.decide import answer_items, decide
from serving.items import MAX_CATEGORIES, ItemTable
from serving.live import LiveState
from state.events import encode
from state.exploration import Explorations
from state.feed import NO_SESSION, Interaction, ItemFeed, ShardFeed
from state.packing import pack_arrays, pack_vector
from state.subject import id_hash
from tests.serving.world import NOW, World, call, empty, item

WORLD = World()


@pytest.fixture(scope="module")
def followed() -> LiveState:
    return WORLD.by_feed(learn_early=10**9)


@pytest.fixture(scope="module")
def loaded() -> LiveState:
    return WORLD.by_load(learn_early=10**9)


@pytest.mark.parametrize("user", [f"u{n}" for n in range(0, 40, 3)] + ["stranger"])
def test_following_the_feed_and_loading_the_store_give_the_same_answers(
    followed: LiveState, loaded: LiveState, user: str
) -> None:
    for scheme in ("epsilon", "optimistic", "greedy"):
        document = encode(Explorations(scheme=scheme))
        slates = []
        for live in (followed, loaded):
            live.put_control("exploration/home", document)
            decided = decide(live, call(user, WORLD.record(user)))
            assert decided is not None
            slates.append(
                ([one.item_id for one in answer_items(live, decided)], decided.slate.propensities, decided)
            )
        (left, left_p, one), (right, right_p, other) = slates
        assert left == right
        np.testing.assert_allclose(left_p, right_p, rtol=1e-9)
        np.testing.assert_allclose(one.scored.scores, other.scored.scores, rtol=1e-6, atol=1e-9)


def test_trends_are_the_same_by_feed_and_by_load(followed: LiveState, loaded: LiveState) -> None:
    rows = np.arange(len(followed.items))
    assert followed.items.ids == loaded.items.ids
    np.testing.assert_allclose(followed.trends.scores(rows, NOW), loaded.trends.scores(rows, NOW), rtol=1e-12)


def test_a_second_load_replaces_what_was_known(loaded: LiveState) -> None:
    again = WORLD.by_load()
    again.forget_subjects()
    assert again.sessions.sessions == 0
    rows = np.arange(len(again.items))
    assert not again.trends.scores(rows, NOW).any()
    again.load_trends(0, WORLD.shard.hash("trends"))
    again.load_trends(0, WORLD.shard.hash("trends"))
    np.testing.assert_array_equal(again.trends.scores(rows, NOW), loaded.trends.scores(rows, NOW))


def test_an_item_can_be_found_as_soon_as_its_event_is_in() -> None:
    live = WORLD.by_load()
    live.apply_items(ItemFeed([("fresh", encode(item(0, item_id="fresh", published_at=NOW)))]))
    decided = decide(live, call(k=50))
    assert decided is not None
    row = live.items.find("fresh")
    assert row in decided.scored.found.rows.tolist()


def test_a_removed_item_is_shown_no_more_and_comes_back_with_its_row() -> None:
    live = WORLD.by_load()
    row = live.items.find("i3")
    live.apply_items(ItemFeed([("i3", None)]))
    assert not live.items.available[row or 0]
    assert (row or 0) not in live.vectors
    live.apply_items(ItemFeed([("i3", encode(item(3)))]))
    assert live.items.find("i3") == row
    assert live.items.available[row or 0]


def test_an_item_out_of_stock_is_known_and_not_available() -> None:
    live = empty()
    live.put_item(encode(item(1, available=False)))
    assert not live.items.available[0]
    live.put_item(encode(item(1)))
    assert live.items.available[0]


def test_a_model_of_other_features_is_left_aside() -> None:
    live = empty()
    before = live.scorer("home")
    arrays, document = HeadModels(prior_model(ranking_registry())).snapshot()
    live.put_model("home", pack_arrays(arrays, document | {"fingerprint": "other"}))
    assert live.scorer("home") is before
    assert live.model_versions == {}
    live.put_model("home", pack_arrays(arrays, document | {"steps": 7}))
    assert live.model_versions == {"home": 7}
    inputs = np.random.default_rng(0).random((5, len(live.registry)))
    np.testing.assert_array_equal(live.scorer("home").logits(inputs), before.logits(inputs))


def test_an_exploration_is_in_force_on_its_surface_only() -> None:
    live = empty()
    live.put_control("exploration/home", encode(Explorations(rate=0.2, version=3)))
    assert live.document("exploration/home").version == 3
    assert live.document("exploration/cart") == Explorations()


def test_a_watermark_of_a_feed_never_goes_back() -> None:
    live = empty()
    for watermark in (5, 9, 7):
        live.apply_shard(0, ShardFeed(watermark=watermark))
    assert live.watermarks == {0: 9}


def test_an_erased_session_leaves_before_its_commits_interactions_and_only_trends_count_its_steps() -> None:
    live = empty()
    live.apply_shard(0, ShardFeed([Interaction(7, "a", NOW, 1.0), Interaction(8, "b", NOW, 1.0)]))
    steps = [Interaction(NO_SESSION, "a", NOW + 1, 1.0), Interaction(7, "c", NOW + 2, 1.0)]
    live.apply_shard(0, ShardFeed(steps, erased_sessions=[7, 99]))
    rows = {name: live.items.row(name) for name in "abc"}
    assert live.sessions.session_items(7).tolist() == [rows["c"]]
    assert live.sessions.session_items(8).tolist() == [rows["b"]]
    assert len(live.sessions.session_items(NO_SESSION)) == 0
    counted = [live.trends.row_state(row).sum() for row in rows.values()]
    assert counted[0] > counted[1]


def test_a_session_that_left_the_store_leaves_the_index() -> None:
    live = empty()
    steps = [Interaction(session, "i1", NOW, 1.0) for session in (7, 8)]
    live.apply_shard(0, ShardFeed(interactions=steps))
    live.apply_shard(0, ShardFeed(dropped_sessions=[7, 99]))
    assert live.sessions.sessions == 1
    assert live.sessions.session_items(8).tolist() == [0]


def table(*items: int) -> ItemTable:
    held = ItemTable(8)
    for number in items:
        held.put(item(number))
    return held


def test_a_row_is_given_once_and_kept_through_growth() -> None:
    held = table(*range(500))
    assert [held.find(f"i{n}") for n in range(500)] == list(range(500))
    assert held.put(item(7, title="again")) == 7
    assert (len(held), held.titles[7]) == (500, "again")
    assert held.hashes[499] == id_hash("i499")
    assert held.available[:500].all()
    assert not held.available[500:].any()


def test_unknown_items_have_no_row_and_are_left_out() -> None:
    held = table(1, 2)
    assert held.find("i9") is None
    assert held.rows(["i2", "i9", "i1"]).tolist() == [1, 0]
    assert held.remove("i9") is None


def test_the_newest_items_come_first_and_removed_ones_last() -> None:
    held = table(*range(150))
    assert held.newest(5).tolist() == [0, 1, 2, 3, 4]
    held.remove("i0")
    assert held.newest(3).tolist() == [1, 2, 3]
    held.put(item(200, published_at=NOW))
    assert held.newest(2).tolist() == [150, 1]
    assert sorted(held.newest(151).tolist()) == list(range(151))


def test_categories_have_codes_and_unknown_ones_none() -> None:
    held = table(0, 1)
    assert held.codes_of(["comedy", "western", "drama"]) == [1, 0]
    many = [f"c{n}" for n in range(20)]
    row = held.put(item(5, categories=many))
    assert len(set(held.codes[row].tolist())) == MAX_CATEGORIES


def test_an_exploration_document_without_defaults_is_read_with_them() -> None:
    live = empty()
    live.put_control("exploration/home", msgspec.json.encode({"version": 2}))
    assert live.document("exploration/home") == Explorations(version=2)


def test_a_forgotten_block_is_taken_back_from_one_shard_alone() -> None:
    live, alone = empty(), empty()
    packed = np.concatenate([[3.0], np.full(5, 0.5), np.eye(5)[np.triu_indices(5)]])
    for shard in (0, 1):
        live.put_blocks(shard, {"i:a": seal(pack_vector(packed)), "i:b": seal(pack_vector(packed))})
    alone.put_blocks(1, {"i:a": seal(pack_vector(packed))})
    live.forget_blocks(0, ["i:a", "shared"])
    live.forget_blocks(0, ["i:b"])
    live.forget_blocks(1, ["i:b"])
    context, arms = np.ones(5), np.ones((1, ARM_DIM))
    for item_id in ("a", "b"):
        rows = live.items.blocks[[live.items.row(item_id)]]
        mean, spread = live.posterior.score_rows(context, arms, rows, None, with_variance=True)
        wished = alone.posterior.score(context, arms, [item_id], None, with_variance=True)
        np.testing.assert_array_equal(mean, wished[0])
        np.testing.assert_array_equal(spread, wished[1])


def test_of_a_control_document_of_a_newer_worker_all_that_is_understood_is_in_force() -> None:
    live = empty()
    live.put_control("exploration/home", b'{"rate": 0.3, "version": 2, "invented_later": true}')
    assert live.document("exploration/home").version == 2
    assert live.laws("home", NOW).document.rate == 0.3


def test_a_control_document_that_cannot_be_read_leaves_the_one_before_it_in_force() -> None:
    live = empty()
    live.put_control("exploration/home", encode(Explorations(rate=0.2, version=1)))
    live.put_control("exploration/home", b'{"rate": 0.3, "version": ')
    assert live.document("exploration/home").version == 1
    assert live.laws("home", NOW).document.rate == 0.2


def test_what_was_learnt_of_other_arms_is_left_aside() -> None:
    live, fresh = empty(), empty()
    packed = pack_vector(np.concatenate([[3.0], np.full(5, 0.5), np.eye(5)[np.triu_indices(5)]]))
    live.put_blocks(0, {"i:a": packed, "shared": packed, "prior": packed, "i:b": b"another" + packed})
    context, arms = np.ones(5), np.ones((1, ARM_DIM))
    for item_id in ("a", "b"):
        got, wished = (
            one.posterior.score(context, arms, [item_id], None, with_variance=False)[0]
            for one in (live, fresh)
        )
        np.testing.assert_array_equal(got, wished)


@pytest.mark.parametrize("category", [0, 1, 2, 7])
def test_rows_of_a_category_are_those_that_have_it_however_often(category: int) -> None:
    items = ItemTable(8)
    for number in range(60):
        items.put(item(number, categories=[f"c{number % 3}", f"c{number % 2}"]))
    held = items.codes[: len(items)]
    assert items.of_category(category).tolist() == np.flatnonzero((held == category).any(axis=1)).tolist()


def clicks(live: LiveState, sessions: int) -> None:
    """Films 0 to 9 are watched together, and 10 to 19, six a session."""
    rng = np.random.default_rng(0)
    for session in range(sessions):
        rows = 10 * (session % 2) + rng.permutation(10)[:6]
        steps = [
            Interaction(1 + session, f"i{row}", NOW + 10 * session + n, 1.0) for n, row in enumerate(rows)
        ]
        live.apply_shard(0, ShardFeed(steps))
        live.settle_moved(1)


def settle_all(live: LiveState) -> None:
    while live.settle_moved(10):
        pass


def behaved(live: LiveState) -> list[str]:
    rows = live.behaviour.around([live.items.row("i3")], 9)
    return [live.items.ids[row] for row in rows.tolist()]


def with_films(films: int = 20) -> LiveState:
    live = empty()
    live.apply_items(ItemFeed([(f"i{n}", encode(item(n))) for n in range(films)]))
    return live


def test_what_sessions_treat_alike_is_brought_and_says_so() -> None:
    live = with_films()
    clicks(live, 300)
    assert set(behaved(live)) == {f"i{n}" for n in range(10) if n != 3}
    query = Query(np.array([live.items.row("i3")]), NOW + 10_000, None, None, None)
    found = live.recommender.retrieve(query, 20)
    brought = found.rows[found.sources >> BEHAVIOUR & 1 == 1]
    assert brought.size > 5
    assert set(brought.tolist()) == set(live.behaviour.around(query.items, brought.size).tolist())


def test_a_removed_film_is_no_longer_among_those_treated_alike() -> None:
    live = with_films()
    clicks(live, 300)
    live.apply_items(ItemFeed([("i4", None)]))
    assert "i4" not in behaved(live)
    late = Interaction(1_000, "i4", NOW + 10_000, 1.0)
    live.apply_shard(0, ShardFeed([late, Interaction(1_000, "i3", NOW + 10_001, 1.0)]))
    settle_all(live)
    assert "i4" not in behaved(live)
    live.take_recommender(live.recommender)
    settle_all(live)
    assert "i4" not in behaved(live)


def test_a_film_that_is_sold_out_makes_room_and_comes_back_with_its_neighbours() -> None:
    live = with_films()
    clicks(live, 300)
    live.apply_items(ItemFeed([("i4", encode(item(4, available=False)))]))
    assert "i4" not in behaved(live)
    live.apply_items(ItemFeed([("i4", encode(item(4)))]))
    settle_all(live)
    assert "i4" in behaved(live)
    assert live.behaviour.around([live.items.row("i4")], 9).size == 9


def test_another_recommender_brings_what_its_own_vectors_say() -> None:
    live = with_films()
    clicks(live, 300)
    fresh = live.fresh_recommender()
    for session in range(200):
        for n, film in enumerate((3, 13, 17)):
            fresh.add(session, live.items.row(f"i{film}"), NOW + 10 * session + n)
    before = behaved(live)
    live.take_recommender(fresh)
    live.settle_moved(2)
    assert behaved(live) == before  # what is known lasts until all of the new is
    live.settle_moved(1)
    assert set(behaved(live)) == {"i13", "i17"}


def test_nothing_of_what_was_known_lasts_when_everything_is_loaded_anew() -> None:
    live = with_films()
    clicks(live, 300)
    live.forget_subjects()
    assert behaved(live) == []


def test_lessons_of_loaded_sessions_meet_what_is_treated_alike() -> None:
    live = with_films()
    rng = np.random.default_rng(0)
    live.load_sessions(
        {
            session: (
                [f"i{10 * (session % 2) + row}" for row in rng.permutation(10)[:6]],
                [NOW + 10 * session + n for n in range(6)],
            )
            for session in range(600)
        }
    )
    assert live.recommender.blend.weights[live.recommender.names.index("behaviour_rank")] != 0.0


def test_sessions_that_were_loaded_are_known_to_what_is_treated_alike() -> None:
    live = with_films()
    live.load_sessions({n: ([f"i{n % 20}", f"i{(n + 10) % 20}"], [NOW + n, NOW + n + 1]) for n in range(100)})
    settle_all(live)
    assert len(behaved(live)) == 9
