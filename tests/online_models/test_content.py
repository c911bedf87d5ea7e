import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.content import Attribute, content_vector, projected, tokens

ITEM: dict[str, Attribute] = {
    "title": "Red running shoe",
    "category": ["Shoes", "Sport"],
    "price": 59.9,
    "sale": True,
}


def test_vectors_are_the_same_in_every_process() -> None:
    code = (
        f"from online_models.content import content_vector; print(content_vector({ITEM!r}).tobytes().hex())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == content_vector(ITEM).tobytes().hex()


@given(
    st.dictionaries(
        st.text(max_size=5), st.text() | st.floats() | st.lists(st.text()) | st.booleans() | st.none()
    )
)
def test_any_attributes_give_a_unit_vector_or_zero(attributes: Any) -> None:
    length = float(np.linalg.norm(content_vector(attributes)))
    assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0


def test_likeness_grows_with_what_is_shared() -> None:
    base = content_vector(ITEM, 256)
    near = content_vector({**ITEM, "title": "Blue running shoe"}, 256)
    far = content_vector({"title": "Deep sea atlas", "category": ["Books"], "price": 12.0}, 256)
    assert base @ near > 0.7
    assert base @ far < 0.3


def test_near_numbers_share_tokens_and_far_ones_do_not() -> Any:
    def shared(left: Any, right: Any) -> Any:
        return len(set(tokens("price", left)) & set(tokens("price", right)))

    assert shared(100.0, 101.0) == 3
    assert shared(100.0, 140.0) > 0
    assert shared(100.0, 1000.0) == 0
    assert shared(5.0, -5.0) == 0


def test_case_and_order_of_labels_do_not_matter() -> None:
    left = content_vector({"tags": ["A", "b"], "title": "Sea DEEP"})
    right = content_vector({"title": "deep sea", "tags": ["B", "a"]})
    np.testing.assert_allclose(left, right, atol=1e-6)


def test_projection_keeps_likeness_and_leaves_fitting_vectors_alone() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=768)
    b = a + 0.5 * rng.normal(size=768)
    c = rng.normal(size=768)
    pa, pb, pc = (projected(v, 128) for v in (a, b, c))
    assert pa @ pb == pytest.approx(0.89, abs=0.12)
    assert abs(pa @ pc) < 0.35
    np.testing.assert_allclose(projected(a, 768), a / np.linalg.norm(a), atol=1e-6)


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="dim is 0"):
        content_vector({}, 0)
    with pytest.raises(ValueError, match="not finite"):
        projected([1.0, float("nan")], 2)
