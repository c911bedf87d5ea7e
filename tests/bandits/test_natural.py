import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.natural import (
    check_block,
    doubled,
    empty_block,
    increments,
    moments,
    pack,
    packed_prior,
    packed_size,
    predict,
    triangle,
    unpack,
)
from bandits.natural import (
    mean as mean_of,
)

dims = st.integers(1, 8)


@given(d=dims, seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_packing_a_block_and_unpacking_it_gives_it_back(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    eta, root = rng.normal(size=d), rng.normal(size=(d, d))
    block = pack(7.0, eta, root @ root.T)
    assert block.shape == (packed_size(d),)
    assert block[0] == 7.0
    got_eta, got_precision = unpack(block, d)
    np.testing.assert_array_equal(got_eta, eta)
    np.testing.assert_array_equal(got_precision, root @ root.T)


@given(d=dims, n=st.integers(0, 6), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_increments_are_the_outer_products_they_stand_for(d: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, weights, targets = rng.normal(size=(n, d)), rng.random(n), rng.normal(size=n)
    rows = increments(features, weights, targets)
    precision = (features * weights[:, None]).T @ features
    wished = pack(float(n), features.T @ (weights * targets), precision)
    np.testing.assert_allclose(rows.sum(axis=0), wished, atol=1e-12)


@given(d=dims, n=st.integers(0, 30), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_moments_are_those_of_bayesian_regression(d: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, weights, targets = rng.normal(size=(n, d)), rng.random(n), rng.normal(size=n)
    blocks = np.stack([empty_block(d), increments(features, weights, targets).sum(axis=0)])
    means, covariances = moments(blocks, d, 0.5)
    precision = features.T @ (features * weights[:, None]) + 2.0 * np.eye(d)
    np.testing.assert_allclose(covariances[1], np.linalg.inv(precision), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        means[1], np.linalg.solve(precision, features.T @ (weights * targets)), atol=1e-10
    )
    np.testing.assert_allclose(covariances[0], 0.5 * np.eye(d), atol=1e-15)
    assert (means[0] == 0).all()


@given(d=dims, n=st.integers(0, 9), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_predictions_by_a_factor_are_those_of_the_moments(d: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = increments(rng.normal(size=(9, d)), rng.random(9), rng.normal(size=9)).sum(axis=0)
    features, prior = rng.normal(size=(n, d)), 0.1 + rng.random(d)
    mean, covariance = moments(block, d, prior)
    np.testing.assert_allclose(mean_of(block, d, packed_prior(d, prior)), mean, atol=1e-10)
    got_mean, got_variance = predict(block, d, prior, features)
    np.testing.assert_allclose(got_mean, features @ mean, atol=1e-10)
    np.testing.assert_allclose(got_variance, ((features @ covariance) * features).sum(axis=1), atol=1e-12)


@given(d=dims, seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_quadratic_form_is_one_product_with_the_packed_triangle(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, root = rng.normal(size=d), rng.normal(size=(d, d))
    symmetric = root + root.T
    packed = pack(0.0, x, symmetric)[1 + d :]
    rows, columns = triangle(d)
    assert (packed * doubled(d)) @ (x[rows] * x[columns]) == pytest.approx(x @ symmetric @ x, abs=1e-10)


def test_a_block_of_another_shape_or_with_a_number_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"shared has shape \(5,\), wanted \(6,\)"):
        check_block("shared", np.zeros(5), 2)
    with pytest.raises(ValueError, match="shared holds nan"):
        check_block("shared", np.array([1.0, np.nan, 0, 0, 0, 0]), 2)
