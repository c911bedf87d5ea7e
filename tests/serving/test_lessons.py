"""The blend learns from what visitors chose among the candidates of their own session, before it is known."""

import numpy as np

from serving.live import LESSON_SESSIONS, LiveState
from state.events import encode
from state.feed import Interaction, ShardFeed
from tests.serving.world import empty, item
from tests.stream.folding import AT

ITEMS = 40


def shop(every: int = 1) -> LiveState:
    live = empty(every)
    for number in range(ITEMS):
        live.put_item(encode(item(number)))
    return live


def walk(session: int, start: int, at_ms: int = AT) -> list[Interaction]:
    """A session of three items of one category, in steps that every session of its start takes."""
    return [Interaction(session, f"i{(start + 3 * n) % ITEMS}", at_ms + 1_000 * n, 1.0) for n in range(3)]


def feed(live: LiveState, sessions: int) -> None:
    for number in range(sessions):
        live.apply_shard(0, ShardFeed(walk(number, number % 9, AT + 60_000 * number)))


def test_lessons_make_what_was_chosen_more_likely() -> None:
    taught, untaught = shop(1), shop(10**9)
    feed(taught, 60)
    feed(untaught, 60)
    assert taught.recommender.blend.lessons > 50
    assert untaught.recommender.blend.lessons == 0
    assert share_of_what_follows(taught) > 1.2 * share_of_what_follows(untaught)


def share_of_what_follows(live: LiveState) -> float:
    """What the blend gives, on average, to the item that every session with such a beginning takes next."""
    shares = []
    for start in range(9):
        first, following = (live.items.row(f"i{number}") for number in (start, start + 3))
        found = live.recommender.recommend([first], AT + 10**7, ITEMS, novel_only=True)
        odds = np.exp(found.scores - found.scores.max())
        shares.append(float(odds[found.rows == following].sum() / odds.sum()))
    return float(np.mean(shares))


def test_one_interaction_in_so_many_is_a_lesson() -> None:
    often, seldom = shop(1), shop(4)
    feed(often, 60)
    feed(seldom, 60)
    assert 0 < seldom.recommender.blend.lessons < often.recommender.blend.lessons / 2


def test_a_choice_that_was_no_candidate_teaches_nothing() -> None:
    live = shop(1)
    live.apply_shard(0, ShardFeed(walk(1, 0)))
    learnt = live.recommender.blend.lessons
    live.apply_shard(0, ShardFeed([Interaction(1, "of no catalogue", AT + 9_000, 1.0)]))
    live.apply_shard(0, ShardFeed([Interaction(2, "i5", AT + 9_000, 1.0)]))
    assert live.recommender.blend.lessons == learnt


def test_sessions_loaded_at_the_start_teach_the_blend_and_leave_what_the_feed_would_have_left() -> None:
    loaded, fed = shop(4), shop(10**9)
    count = LESSON_SESSIONS + 50
    stored = {n: walk(n, n % 9, AT + 60_000 * n) for n in range(count)}
    loaded.load_sessions(
        {n: ([s.item_id for s in steps], [s.at_ms for s in steps]) for n, steps in stored.items()}
    )
    feed(fed, count)
    assert loaded.recommender.blend.lessons > LESSON_SESSIONS / 4
    query = np.array([0, 3])
    for ours, theirs in (
        (loaded.covisits.score(query, limit=20), fed.covisits.score(query, limit=20)),
        (loaded.sessions.score(query, AT, limit=20), fed.sessions.score(query, AT, limit=20)),
    ):
        assert ours[0].tolist() == theirs[0].tolist()
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9)
    ours_match, theirs_match = (one.recommender.embedding.match(query, np.arange(9)) for one in (loaded, fed))
    np.testing.assert_allclose(ours_match, theirs_match, rtol=1e-5)  # float32 sums in either order


def test_forgetting_the_subjects_forgets_the_lessons() -> None:
    live = shop(1)
    feed(live, 30)
    live.forget_subjects()
    assert live.recommender.blend.lessons == 0
    assert live.recommender.blend.weights.tolist() == shop(1).recommender.blend.weights.tolist()
