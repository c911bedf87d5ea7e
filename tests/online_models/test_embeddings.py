from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.embeddings import ItemVectors, ItemVectorSettings


def clustered(rng: Any, rows: Any, dim: Any = 64) -> Any:
    centres = rng.normal(size=(100, dim))
    return centres[rng.integers(0, 100, rows)] + 0.7 * rng.normal(size=(rows, dim))


def recall(index: Any, rows: Any, vectors: Any, queries: Any, limit: Any = 50) -> Any:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = []
    for query in queries:
        best = rows[np.argsort(-(units @ query))[:limit]]
        shares.append(len(set(index.nearest(query, limit)[0].tolist()) & set(best.tolist())) / limit)
    return float(np.mean(shares))


def test_recall_at_50_stays_above_95_percent_through_churn() -> None:
    rng = np.random.default_rng(0)
    vectors, index = clustered(rng, 6000), ItemVectors(ItemVectorSettings())
    for row in range(4000):
        index.put(row, vectors[row])
    queries = clustered(rng, 60)
    assert recall(index, np.arange(4000), vectors[:4000], queries) >= 0.95
    for row in range(0, 4000, 2):
        index.remove(row)
    odd = np.arange(1, 4000, 2)
    assert recall(index, odd, vectors[odd], queries) >= 0.95
    for row in range(4000, 6000):
        index.put(row, vectors[row])
    for row in odd[:500]:
        vectors[row] = vectors[row - 1]
        index.put(int(row), vectors[row])
    held = np.concatenate([odd, np.arange(4000, 6000)])
    assert recall(index, held, vectors[held], queries) >= 0.95


operations = st.lists(st.tuples(st.booleans(), st.integers(0, 15), st.integers(0, 50)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(operations, st.sampled_from([0, 8, 10_000]))
def test_index_holds_exactly_what_was_put_and_not_removed(steps: Any, exact_below: Any) -> None:
    index = ItemVectors(ItemVectorSettings(dim=4, exact_below=exact_below))
    held = {}
    for put, row, seed in steps:
        if put:
            vector = np.random.default_rng(seed).normal(size=4)
            index.put(row, vector)
            held[row] = vector / np.linalg.norm(vector)
        else:
            index.remove(row)
            held.pop(row, None)
        for known in held:
            assert index.nearest(held[known], 1)[1][0] == pytest.approx(1.0, abs=1e-5)
    rows, sims = index.nearest(np.ones(4), 50)
    assert sorted(rows.tolist()) == sorted(held)
    assert len(index) == len(held)
    assert np.all(np.diff(sims) <= 0)


def test_an_item_is_found_right_after_it_is_put_and_never_after_removal() -> None:
    index = ItemVectors(ItemVectorSettings(dim=2, exact_below=0))
    index.put(7, [1.0, 0.0])
    assert index.nearest([1.0, 0.1], 3)[0].tolist() == [7]
    index.remove(7)
    assert index.nearest([1.0, 0.1], 3)[0].size == 0
    assert index.vector(7) is None
    index.remove(7)


def test_profile_is_the_weighted_direction_and_skips_unknown_items() -> None:
    index = ItemVectors(ItemVectorSettings(dim=2))
    index.put(1, [1.0, 0.0])
    index.put(2, [0.0, 1.0])
    profile = index.profile([1, 2, 99], [3.0, 4.0, 100.0])
    np.testing.assert_allclose(profile, [0.6, 0.8], atol=1e-6)
    np.testing.assert_allclose(index.similarities(profile, [2, 99]), [0.8, 0.0], atol=1e-6)
    assert not index.profile([99], [1.0]).any()
    assert index.nearest(index.profile([99], [1.0]), 5)[0].size == 0


def test_bad_values_are_named() -> None:
    index = ItemVectors(ItemVectorSettings(dim=3))
    with pytest.raises(ValueError, match=r"shape \(2,\).*wanted \(3,\)"):
        index.put(0, [1.0, 2.0])
    with pytest.raises(ValueError, match="length 0"):
        index.put(0, [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="dim is 0"):
        ItemVectorSettings(dim=0)
