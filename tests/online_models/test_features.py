from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from online_models.features import Feature, FeatureRegistry

AGE = Feature("age", "seconds", 60.0)
SHARE = Feature("share", "ratio", 0.25, "profile")
SCORE = Feature("score")
REGISTRY = FeatureRegistry([AGE, SHARE, SCORE], [("age", "score"), ("share", "share")])


@given(arrays(np.float64, 5), arrays(np.float64, 5), arrays(np.float64, 5))
def test_inputs_are_finite_whatever_comes_in(age: Any, share: Any, score: Any) -> None:
    wide = REGISTRY.expand(REGISTRY.matrix({"age": age, "share": share}, 5))
    assert wide.shape == (5, 5)
    assert np.all(np.isfinite(wide))
    assert np.all(np.isfinite(REGISTRY.matrix({"score": score}, 5)))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_crosses_are_products_of_columns(values: Any) -> None:
    rows = len(values)
    inputs = REGISTRY.matrix({"score": values, "age": np.arange(rows)}, rows)
    wide = REGISTRY.expand(inputs)
    np.testing.assert_array_equal(wide[:, 3], inputs[:, 0] * inputs[:, 2])
    np.testing.assert_array_equal(wide[:, 4], inputs[:, 1] ** 2)


def test_missing_and_broken_values_take_the_default() -> None:
    inputs = REGISTRY.matrix({"share": [np.nan, 2.0]}, 2)
    np.testing.assert_allclose(inputs, [[np.log1p(60), 0.25, 0.0], [np.log1p(60), 1.0, 0.0]])


def test_without_consent_a_profile_feature_is_its_default_whatever_is_given() -> None:
    with_consent = REGISTRY.matrix({"share": 0.9}, 1)
    without = REGISTRY.matrix({"share": 0.9}, 1, profile=False)
    assert (with_consent[0, 1], without[0, 1]) == (0.9, 0.25)


def test_order_is_that_of_declaration() -> None:
    assert REGISTRY.columns == ("age", "share", "score", "age*score", "share*share")
    assert REGISTRY.place("score") == 2


def test_fingerprint_changes_with_meaning_and_only_with_meaning() -> None:
    twin = FeatureRegistry(
        [Feature("age", "seconds", 60.0, about="other words"), SHARE, SCORE], REGISTRY.crosses
    )
    assert twin.fingerprint() == REGISTRY.fingerprint()
    for other in (
        [AGE, SCORE, SHARE],
        [Feature("age", "count", 60.0), SHARE, SCORE],
        [Feature("age"), SHARE, SCORE],
    ):
        assert FeatureRegistry(other, REGISTRY.crosses).fingerprint() != REGISTRY.fingerprint()
    assert FeatureRegistry([AGE, SHARE, SCORE]).fingerprint() != REGISTRY.fingerprint()


def test_bad_declarations_are_named() -> None:
    with pytest.raises(ValueError, match=r"'a\*b'"):
        Feature("a*b")
    with pytest.raises(ValueError, match="kind 'odd'"):
        Feature("a", "odd")
    with pytest.raises(ValueError, match="each name once"):
        FeatureRegistry([AGE, AGE])
    with pytest.raises(ValueError, match=r"crosses name \['nope'\]"):
        FeatureRegistry([AGE], [("age", "nope")])
    with pytest.raises(ValueError, match=r"values name \['nope'\]"):
        REGISTRY.matrix({"nope": 1.0}, 1)
