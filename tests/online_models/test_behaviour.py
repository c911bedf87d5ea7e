"""Behaviour neighbours: lists follow what clicks have taught, at the pace they are given."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.arrays import VectorArray
from online_models.behaviour import BehaviourNeighbours
from online_models.embeddings import ItemVectorSettings
from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings


class Plain:
    """Vectors as they are given."""

    def __init__(self) -> None:
        self.held: dict[int, VectorArray] = {}

    def put(self, row: int, numbers: Iterable[float]) -> None:
        vector = np.array(list(numbers), np.float32)
        self.held[row] = vector / np.linalg.norm(vector)

    def vector(self, row: int) -> VectorArray | None:
        return self.held.get(row)


def neighbours(dim: int = 2) -> BehaviourNeighbours:
    return BehaviourNeighbours(ItemVectorSettings(dim=dim))


def circle(*degrees: float) -> Plain:
    learnt = Plain()
    for row, angle in enumerate(degrees):
        learnt.put(row, (np.cos(np.radians(angle)), np.sin(np.radians(angle))))
    return learnt


def test_items_that_sessions_treat_alike_are_near_each_other() -> None:
    embedding, rng = (
        SessionEmbedding(SessionEmbeddingSettings(dim=16, others=16, rivals=0)),
        np.random.default_rng(0),
    )
    alike = neighbours(16)
    for _ in range(3_000):
        world = 10 * int(rng.integers(2))
        session = (world + rng.integers(0, 10, 4)).tolist()
        for step, row in enumerate(session):
            embedding.learn(session[:step], row)
            alike.note([row])
        alike.settle(embedding, 1)
    assert alike.settle(embedding, 1_000) == 0
    for row in (3, 14):
        near = alike.around([row], 9).tolist()
        assert {other // 10 for other in near} == {row // 10}


def test_what_waits_longest_comes_first_and_the_rest_waits_on() -> None:
    learnt, alike = circle(0, 10, 20, 30), neighbours()
    alike.note([2, 0])
    alike.note([3, 2])
    assert alike.settle(learnt, 2) == 1
    assert alike.around([0], 5).tolist() == [2]
    assert alike.settle(learnt, 2) == 0
    assert alike.around([0], 5).tolist() == [2, 3]


def test_an_item_that_has_hardly_moved_is_not_put_again_and_takes_nobodys_turn() -> None:
    learnt, alike = circle(0, 40, 80, 120), neighbours()
    alike.note(range(4))
    alike.settle(learnt, 4)
    before = alike.vectors.vector(0)
    learnt.put(0, (1.0, 0.1))
    learnt.put(3, (1.0, -0.1))
    alike.note([0, 3])
    assert alike.settle(learnt, 1) == 0
    np.testing.assert_array_equal(alike.vectors.vector(0), before)
    assert alike.around([0], 1).tolist() == [3]


def test_a_round_ends_though_everything_stands_still() -> None:
    learnt, alike = circle(*range(40)), neighbours()
    alike.note(range(40))
    alike.settle(learnt, 40)
    alike.note(range(40))
    assert alike.settle(learnt, 1) == 40 - 16


def test_an_item_whose_vector_is_gone_leaves_the_lists() -> None:
    learnt, alike = circle(0, 10, 20), neighbours()
    alike.note(range(3))
    alike.settle(learnt, 3)
    del learnt.held[1]
    alike.note([1, 7])
    assert alike.settle(learnt, 2) == 0
    assert alike.around([0], 5).tolist() == [2]


def test_a_removed_item_is_found_no_more_and_waits_no_more() -> None:
    learnt, alike = circle(0, 10, 20), neighbours()
    alike.note(range(3))
    alike.settle(learnt, 3)
    alike.note([1])
    alike.remove(1)
    assert alike.settle(learnt, 3) == 0
    assert alike.around([0], 5).tolist() == [2]


def test_after_clearing_nothing_is_known_until_it_is_noted_again() -> None:
    learnt, alike = circle(0, 10), neighbours()
    alike.note([0, 1])
    alike.settle(learnt, 2)
    alike.clear()
    assert alike.around([0], 5).tolist() == []
    assert alike.settle(learnt, 2) == 0
    alike.note([0, 1])
    alike.settle(learnt, 2)
    assert alike.around([0], 5).tolist() == [1]


def test_what_was_known_lasts_until_all_of_the_new_is_settled() -> None:
    learnt, alike = circle(0, 10, 50, 60), neighbours()
    alike.note(range(4))
    alike.settle(learnt, 4)
    other = circle(0, 50, 10, 60)
    for _ in range(2):  # also where the vectors change again meanwhile
        alike.renew()
        alike.note(range(4))
        alike.settle(other, 3)
        assert alike.around([0], 1).tolist() == [1]
    alike.remove(1)
    assert alike.around([0], 1).tolist() == [2]
    assert alike.settle(other, 1) == 0
    assert alike.around([0], 3).tolist() == [2, 3]


@pytest.mark.parametrize("exact_below", [0, 2_000])
@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 11), st.floats(0, 360), st.booleans()), max_size=40))
def test_lists_name_only_items_that_are_held_and_never_the_one_asked_about(
    exact_below: int, steps: list[tuple[int, float, bool]]
) -> None:
    learnt = circle()
    alike = BehaviourNeighbours(ItemVectorSettings(dim=2, exact_below=exact_below, built_at=0))
    for row, angle, stays in steps:
        if stays:
            learnt.put(row, (np.cos(np.radians(angle)), np.sin(np.radians(angle))))
            alike.note([row])
        else:
            learnt.held.pop(row, None)
            alike.remove(row)
        alike.settle(learnt, 1)
    while alike.settle(learnt, 4):
        pass
    for row in range(12):
        near = alike.around([row], 20).tolist()
        assert row not in near
        if row in learnt.held:
            assert set(near) == learnt.held.keys() - {row}
