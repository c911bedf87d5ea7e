"""What is packed comes back bit for bit, and what was damaged is never believed."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from state.packing import (
    CorruptStateError,
    from_base64,
    pack_arrays,
    pack_vector,
    seal,
    to_base64,
    unpack_arrays,
    unpack_vector,
    unseal,
)

VECTORS = npst.arrays(np.float64, st.integers(0, 40))
DTYPES = st.sampled_from(["<f8", "<f4", "<i8", "<i4", "<u8", "<u4", "|u1", "|b1", ">f8", ">i4"])
ARRAYS = DTYPES.flatmap(lambda dtype: npst.arrays(np.dtype(dtype), npst.array_shapes(max_dims=3, max_side=5)))
META = st.dictionaries(st.text(max_size=8), st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.none())


@given(VECTORS)
def test_a_vector_comes_back_bit_for_bit(values: Any) -> None:
    assert unpack_vector(pack_vector(values)).tobytes() == values.tobytes()


@given(VECTORS)
def test_numbers_inside_json_come_back_bit_for_bit(values: Any) -> None:
    assert from_base64(to_base64(values)).tobytes() == values.tobytes()


@given(st.dictionaries(st.text(max_size=8), ARRAYS, max_size=4), META)
def test_named_arrays_come_back_with_shape_type_and_document(arrays: dict[str, Any], meta: Any) -> None:
    got, document = unpack_arrays(pack_arrays(arrays, meta))
    assert document == meta
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert got[name].shape == array.shape
        assert got[name].dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(got[name], array)


@given(st.binary(max_size=60), st.data())
def test_one_flipped_bit_is_noticed(body: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(body))
    meaningful = [0, *range(4, len(sealed))]  # three bytes of padding say nothing
    sealed[data.draw(st.sampled_from(meaningful))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptStateError):
        unseal(bytes(sealed))


@given(st.binary(max_size=60), st.integers(1, 68))
def test_a_cut_value_is_noticed(body: bytes, missing: int) -> None:
    sealed = seal(body)
    with pytest.raises(CorruptStateError):
        unseal(sealed[: max(0, len(sealed) - missing)])


def test_half_a_number_is_noticed() -> None:
    with pytest.raises(CorruptStateError, match="a multiple of 8"):
        unpack_vector(seal(b"1234"))


def test_a_value_of_another_version_is_named() -> None:
    with pytest.raises(CorruptStateError, match="version 2; wished: 1"):
        unseal(b"\x02" + seal(b"x")[1:])


@pytest.mark.parametrize("dtype", ["|O", "<U4", "<M8[ms]", "|V8"])
def test_only_numbers_are_unpacked(dtype: str) -> None:
    head = b'{"meta":{},"arrays":[["a","%b",[1]]]}' % dtype.encode()
    with pytest.raises(CorruptStateError, match="array 'a' has type"):
        unpack_arrays(seal(struct.pack("<I", len(head)) + head + bytes(8)))


def test_unpacked_numbers_can_be_changed() -> None:
    vector, told = unpack_vector(pack_vector(np.zeros(2))), from_base64(to_base64(np.zeros(2)))
    array = unpack_arrays(pack_arrays({"a": np.zeros(2)}, {}))[0]["a"]
    for one in (vector, told, array):
        one[0] = 1.0
        assert one.tolist() == [1.0, 0.0]
