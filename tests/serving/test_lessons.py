"""The blend learns from what visitors chose among the candidates of their own session, before it is known."""

import numpy as np

from serving.lessons import Lessons
from serving.live import LESSON_SESSIONS, LiveState
from state.events import encode
from state.feed import Interaction, ShardFeed
from tests.serving.world import empty, item
from tests.stream.folding import AT

ITEMS = 40


def shop() -> LiveState:
    live = empty()
    for number in range(ITEMS):
        live.put_item(encode(item(number)))
    return live


def walk(session: int, start: int, at_ms: int = AT) -> list[Interaction]:
    """A session of three items of one category, in steps that every session of its start takes."""
    return [Interaction(session, f"i{(start + 3 * n) % ITEMS}", at_ms + 1_000 * n, 1.0) for n in range(3)]


def feed(live: LiveState, sessions: int, lessons: Lessons) -> None:
    for number in range(sessions):
        live.apply_shard(0, ShardFeed(walk(number, number % 9, AT + 60_000 * number)), lessons.teach)


def test_an_interaction_is_a_lesson_before_the_live_state_knows_it() -> None:
    live, known = shop(), []

    def teach(session: int, row: int, at_ms: int) -> None:
        known.append((row, live.sessions.session_items(session).tolist()))

    live.apply_shard(0, ShardFeed(walk(1, 0)), teach)
    rows = [live.items.find(f"i{n}") for n in (0, 3, 6)]
    assert known == [(rows[0], []), (rows[1], rows[:1]), (rows[2], rows[:2])]


def test_lessons_make_what_was_chosen_more_likely() -> None:
    taught, untaught = shop(), shop()
    feed(taught, 60, Lessons(taught, every=1))
    feed(untaught, 60, Lessons(untaught, every=10**9))
    assert taught.blend.lessons > 50
    assert untaught.blend.lessons == 0
    inputs = np.zeros((2, len(taught.registry)))
    inputs[0, taught.registry.place("covisit")] = 1.0  # in this shop the next step is what others took next
    inputs[1, taught.registry.place("trend_slow")] = 1.0
    margins = [-np.diff(live.blend_scorer.logits(inputs))[0] for live in (taught, untaught)]
    assert margins[0] > margins[1] + 0.3


def test_one_interaction_in_so_many_is_a_lesson() -> None:
    often, seldom = shop(), shop()
    feed(often, 60, Lessons(often, every=1))
    feed(seldom, 60, Lessons(seldom, every=4))
    assert 0 < seldom.blend.lessons < often.blend.lessons / 2


def test_a_choice_that_was_no_candidate_teaches_nothing() -> None:
    live = shop()
    lessons = Lessons(live, every=1)
    live.apply_shard(0, ShardFeed(walk(1, 0)), lessons.teach)
    learnt = live.blend.lessons
    live.apply_shard(0, ShardFeed([Interaction(1, "of no catalogue", AT + 9_000, 1.0)]), lessons.teach)
    live.apply_shard(0, ShardFeed([Interaction(2, "i5", AT + 9_000, 1.0)]), lessons.teach)
    assert live.blend.lessons == learnt


def test_sessions_loaded_at_the_start_teach_the_blend_and_leave_what_the_feed_would_have_left() -> None:
    loaded, fed = shop(), shop()
    count = LESSON_SESSIONS + 50
    stored = {n: walk(n, n % 9, AT + 60_000 * n) for n in range(count)}
    loaded.load_sessions(
        {n: ([s.item_id for s in steps], [s.at_ms for s in steps]) for n, steps in stored.items()},
        Lessons(loaded).teach,
    )
    feed(fed, count, Lessons(fed, every=10**9))
    assert loaded.blend.lessons > LESSON_SESSIONS / 4
    query = np.array([0, 3])
    for ours, theirs in (
        (loaded.covisits.score(query, limit=20), fed.covisits.score(query, limit=20)),
        (loaded.sessions.score(query, AT, limit=20), fed.sessions.score(query, AT, limit=20)),
    ):
        assert ours[0].tolist() == theirs[0].tolist()
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9)


def test_forgetting_the_subjects_forgets_the_lessons() -> None:
    live = shop()
    feed(live, 30, Lessons(live, every=1))
    live.forget_subjects()
    assert live.blend.lessons == 0
    assert live.blend_scorer.weights.tolist() == shop().blend_scorer.weights.tolist()
