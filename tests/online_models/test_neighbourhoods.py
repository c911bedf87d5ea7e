"""Neighbourhoods: lists kept by changes say what a search would say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.embeddings import ItemVectors, ItemVectorSettings
from online_models.neighbourhoods import Neighbourhoods


def vectors(dim: int = 8, exact_below: int = 2_000) -> ItemVectors:
    return ItemVectors(ItemVectorSettings(dim=dim, exact_below=exact_below))


def clustered(rng: np.random.Generator, rows: int, dim: int = 16) -> np.ndarray:
    centres = rng.normal(size=(rows // 25, dim))
    return centres[rng.integers(0, len(centres), rows)] + 0.6 * rng.normal(size=(rows, dim))


@pytest.mark.parametrize("at_once", [True, False])
def test_lists_hold_the_nearest_whether_settled_in_one_go_or_change_by_change(*, at_once: bool) -> None:
    given = clustered(np.random.default_rng(0), 600)
    alike = Neighbourhoods(vectors(16), kept=10)
    for row, vector in enumerate(given):
        alike.put(row, vector)
        if not at_once:
            alike.settle(1)
    assert alike.settle(1_000) == 0
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    shares = []
    for row in range(600):
        best = [other for other in np.argsort(-(units @ units[row])).tolist() if other != row][:10]
        shares.append(len(set(best) & set(alike.around([row], 10).tolist())) / 10)
    assert np.mean(shares) == 1.0


def test_a_new_item_is_found_around_those_it_is_like_as_soon_as_it_is_settled() -> None:
    rng = np.random.default_rng(1)
    alike = Neighbourhoods(vectors(), kept=5)
    given = rng.normal(size=(50, 8))
    for row, vector in enumerate(given):
        alike.put(row, vector)
    alike.settle(100)
    alike.put(50, given[7])
    assert alike.settle(100) == 0
    assert alike.around([7], 5).tolist()[0] == 50
    assert alike.around([50], 5).tolist()[0] == 7


def test_the_newest_item_asked_about_need_not_wait_to_be_settled() -> None:
    alike = Neighbourhoods(vectors(2))
    alike.put(0, [1.0, 0.0])
    alike.put(1, [1.0, 0.1])
    assert alike.around([0], 5).tolist() == [1]


def test_lists_take_turns_beginning_with_the_newest() -> None:
    alike = Neighbourhoods(vectors(2))
    for row, vector in enumerate([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0], [0.1, 0.9], [0.2, 0.8]]):
        alike.put(row, vector)
    alike.settle(10)
    assert alike.around([0, 3], 4).tolist() == [4, 1, 5, 2]
    assert alike.around([], 4).tolist() == []
    assert alike.around([99], 4).tolist() == []


KINDS = st.sampled_from(["put", "remove", "settle"])
changes = st.lists(st.tuples(KINDS, st.integers(0, 9), st.integers(0, 30)))


@settings(max_examples=80)
@given(changes)
def test_no_list_ever_holds_its_own_item_twice_the_same_or_out_of_order(
    steps: list[tuple[str, int, int]],
) -> None:
    alike = Neighbourhoods(vectors(4), kept=4)
    for what, row, seed in steps:
        if what == "put":
            alike.put(row, np.random.default_rng(seed).normal(size=4))
        elif what == "remove":
            alike.remove(row)
        else:
            alike.settle(3)
    alike.settle(100)
    for row in range(10):
        found = alike.around([row], 10).tolist()
        assert row not in found
        assert len(set(found)) == len(found)
        assert bool(found) <= (row in alike.vectors)


def test_what_is_removed_has_no_neighbours_until_it_comes_back() -> None:
    alike = Neighbourhoods(vectors(2))
    alike.put(0, [1.0, 0.0])
    alike.put(1, [1.0, 0.1])
    alike.settle(10)
    alike.remove(0)
    assert alike.around([0], 5).tolist() == []
    alike.put(0, [1.0, 0.0])
    assert alike.around([0], 5).tolist() == [1]
    assert alike.nbytes() > 0


def test_memory_follows_the_items_held_not_those_ever_met() -> None:
    rng, alike = np.random.default_rng(2), Neighbourhoods(vectors(4))
    for row in range(60):
        alike.put(row, rng.normal(size=4))
    alike.settle(100)
    lists = alike._lists.rows.nbytes
    for row in range(60, 1_000):
        alike.remove(row - 60)
        alike.put(row, rng.normal(size=4))
        alike.settle(1)
    assert alike._lists.rows.nbytes == lists
    assert set(alike.around([999], 5).tolist()) <= set(range(940, 1_000))
