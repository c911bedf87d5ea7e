import numpy as np
import pytest

from online_models._embedding_loops import exponentials
from online_models.session_embedding import SessionEmbedding, SessionEmbeddingSettings

SETTINGS = SessionEmbeddingSettings(dim=16, others=16, rivals=4, recent=2000)


def taught(sessions: int, seed: int = 0) -> SessionEmbedding:
    """Two worlds of ten items: a session stays in one, and item n is followed by n + 1."""
    embedding, rng = SessionEmbedding(SETTINGS), np.random.default_rng(seed)
    for _ in range(sessions):
        world, at = 10 * int(rng.integers(2)), int(rng.integers(10))
        session: list[int] = []
        for _ in range(5):
            item = world + at
            embedding.learn(session, item)
            session.append(item)
            at = (at + 1) % 10
    return embedding


def test_it_learns_which_item_follows() -> None:
    embedding = taught(4000)
    for last in (3, 15):
        odds = embedding.match([last - 1, last], np.arange(20))[:, 0]
        odds[[last - 1, last]] = -np.inf  # what a session holds fits it, taken again or not
        assert int(np.argmax(odds)) == last + 1
        same = odds[:10] if last < 10 else odds[10:]
        other = odds[10:] if last < 10 else odds[:10]
        assert same.max() > other.max() + 2.0


def test_what_was_near_and_was_not_taken_moves_away() -> None:
    odds = []
    for near in ([], [806]):
        embedding = SessionEmbedding(SessionEmbeddingSettings(dim=16, others=2, rivals=1, seed=4))
        for item in (3, 806, *range(10, 800)):
            embedding.learn([], item)
        for following in [806] * 30 + [5] * 30:
            embedding.learn([3], following, near if following == 5 else [])
        odds.append(float(embedding.match([3], [806])[0, 0]))
    assert odds[1] < odds[0] - 0.5


def test_what_was_restored_learns_on_as_what_was_copied() -> None:
    embedding = taught(50)
    embedding.reserve(5_000)
    arrays, meta = embedding.snapshot()
    again = SessionEmbedding.restore(arrays, meta)
    for one in (embedding, again):
        one.learn([3, 4], 5, near=[6, 7, 4_999])
    np.testing.assert_array_equal(embedding.tables.vector, again.tables.vector)


def test_a_snapshot_that_lacks_an_array_is_refused_with_its_name() -> None:
    arrays, meta = SessionEmbedding(SETTINGS).snapshot()
    for name in arrays:
        with pytest.raises(ValueError, match=f"snapshot's {name} is none"):
            SessionEmbedding.restore({other: arrays[other] for other in arrays if other != name}, meta)


def test_the_same_clicks_and_seed_give_the_same_vectors() -> None:
    left, right = taught(50), taught(50)
    np.testing.assert_array_equal(left.tables.vector, right.tables.vector)


def test_vectors_do_not_depend_on_how_room_was_made() -> None:
    roomy = SessionEmbedding(SETTINGS)
    roomy.reserve(50_000)
    tight = SessionEmbedding(SETTINGS)
    for embedding in (roomy, tight):
        embedding.learn([], 7)
        embedding.learn([7], 30_000)
    np.testing.assert_array_equal(roomy.vector(30_000), tight.vector(30_000))


def test_numbers_stay_finite_on_noise() -> None:
    embedding, rng = SessionEmbedding(SETTINGS), np.random.default_rng(1)
    for _ in range(5000):
        embedding.learn(rng.integers(0, 50, rng.integers(0, 9)), int(rng.integers(0, 50)))
    assert np.all(np.isfinite(embedding.tables.vector))
    assert np.all(np.isfinite(embedding.match([1, 2], np.arange(50))))


def test_items_never_met_match_with_zero() -> None:
    embedding = taught(10)
    np.testing.assert_array_equal(embedding.match([3], [900, 10_000_000]), np.zeros((2, 2)))
    assert embedding.vector(900) is None
    embedding.remove_item(3)
    assert embedding.vector(3) is None


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="item is -2"):
        SessionEmbedding(SETTINGS).learn([], -2)
    with pytest.raises(ValueError, match=r"before has rows 1\.\.5000, wanted 0\.\.1023"):
        SessionEmbedding(SETTINGS).learn([1, 5000], 2)
    with pytest.raises(ValueError, match=r"near has rows -1\.\.3, wanted 0\.\.1023"):
        SessionEmbedding(SETTINGS).learn([1], 2, [3, -1])
    with pytest.raises(ValueError, match="rivals is 16"):
        SessionEmbeddingSettings(others=16, rivals=16)
    with pytest.raises(ValueError, match="others is 0"):
        SessionEmbeddingSettings(others=0)


def test_a_removed_item_stays_removed_while_others_are_learnt() -> None:
    embedding = taught(50)
    embedding.remove_item(3)
    for click in range(200):
        embedding.learn([click % 3], 4 + click % 3)
    assert embedding.vector(3) is None
    np.testing.assert_array_equal(embedding.tables.vector[3], 0.0)


def test_exponentials_of_the_softmax_are_those_of_the_library() -> None:
    values = np.linspace(-20.0, 0.0, 4_001).astype(np.float32)
    wish, got = np.exp(values.astype(np.float64)), values.copy()
    total = exponentials(got)
    np.testing.assert_allclose(got, wish, rtol=2e-4)
    np.testing.assert_allclose(total, wish.sum(), rtol=1e-5)


def test_vectors_start_with_a_line_of_cache_after_growth_and_restoring() -> None:
    embedding = taught(20)
    for room in (5_000, 30_001):
        embedding.reserve(room)
        assert embedding.tables.vector.ctypes.data % 64 == 0
    kept = embedding.vector(3)
    again = SessionEmbedding.restore(*embedding.snapshot())
    assert again.tables.vector.ctypes.data % 64 == 0
    np.testing.assert_array_equal(again.vector(3), kept)
