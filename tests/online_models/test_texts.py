"""Texts: joined as Python joins them, whatever they hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.texts import Texts


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=200), st.data())
def test_texts_of_rows_are_joined_as_python_joins_them(held: list[bytes], data: st.DataObject) -> None:
    texts = Texts()
    for text in held:
        texts.append(text)
    rows = data.draw(st.lists(st.integers(0, len(held) - 1), max_size=50))
    assert texts.join(np.array(rows, np.int64)) == b",".join(held[row] for row in rows)


@pytest.mark.parametrize("row", [-1, 1])
def test_a_row_without_a_text_is_refused(row: int) -> None:
    texts = Texts()
    texts.append(b"a")
    with pytest.raises(IndexError, match="wanted 0 to 0"):
        texts.join(np.array([row]))
