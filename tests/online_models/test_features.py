from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from online_models.features import Feature, FeatureRegistry
from online_models.hashing import BUCKETS, MOST_CODES, buckets, code_of

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
    bare = FeatureRegistry([AGE, SHARE, SCORE])
    assert bare.fingerprint() == REGISTRY.fingerprint(), "rows mean the same, whatever is crossed"
    assert bare.declaration() != REGISTRY.declaration()


KIND, NEW = Feature("kind", "code", privacy="item"), Feature("new", "flag")
HASHED = FeatureRegistry([AGE, KIND, NEW], [], [("kind",), ("kind", "new")])


def test_a_code_is_no_amount() -> None:
    inputs = HASHED.matrix({"kind": [7.9, -3.0, 1e300, code_of("drama")]}, 4)
    np.testing.assert_array_equal(inputs[:, 1], [7.0, 0.0, MOST_CODES, code_of("drama")])
    np.testing.assert_array_equal(HASHED.expand(inputs)[:, 1], np.zeros(4))


@given(st.integers(1, MOST_CODES), st.integers(1, MOST_CODES), st.booleans(), st.booleans())
def test_equal_joint_values_have_equal_buckets(one: Any, other: Any, first: Any, second: Any) -> None:
    inputs = HASHED.matrix({"kind": [one, other], "new": [float(first), float(second)]}, 2)
    left, right = buckets(inputs, HASHED.hashing)
    assert np.all((left >= 0) & (left < BUCKETS))
    if (one, first) == (other, second):
        np.testing.assert_array_equal(left, right)


def test_of_many_joint_values_few_share_a_bucket() -> None:
    codes = np.array([code_of(f"category-{n}") for n in range(200)], float)
    inputs = HASHED.matrix({"kind": np.repeat(codes, 2), "new": np.tile([0.0, 1.0], 200)}, 400)
    assert len(np.unique(buckets(inputs, HASHED.hashing)[:, 1])) > 370


def test_an_unknown_category_has_no_bucket_and_a_lowered_flag_has() -> None:
    inputs = HASHED.matrix({"kind": [0.0, 5.0]}, 2)
    places = buckets(inputs, HASHED.hashing)
    assert (places[0] == -1).all()
    assert (places[1] >= 0).all()


@given(arrays(np.float64, (4, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_no_logged_row_leads_out_of_the_table(inputs: Any) -> None:
    places = buckets(inputs, HASHED.hashing)
    assert np.all((places >= -1) & (places < BUCKETS))


def test_a_variant_has_the_same_rows_and_other_crosses() -> None:
    variant = REGISTRY.variant([("age", "share")])
    assert (variant.crosses, variant.fingerprint()) == ((("age", "share"),), REGISTRY.fingerprint())
    assert HASHED.variant(hashed=[]).hashed == ()


def test_bad_declarations_are_named() -> None:
    for hashed in ([("age",)], [()], [("new", "kind", "new", "kind")]):
        with pytest.raises(ValueError, match="hashed cross"):
            FeatureRegistry([AGE, KIND, NEW], [], hashed)
    with pytest.raises(ValueError, match=r"products name \['kind'\]"):
        FeatureRegistry([AGE, KIND], [("age", "kind")])
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
