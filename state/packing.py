"""Arrays as bytes: version, checksum, raw little-endian numbers. Never pickles."""

import binascii
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_VERSION = 1
_HEADER = struct.Struct("<BxxxI")
_DTYPES = {"<f8", "<f4", "<i8", "<i4", "<u8", "<u4", "|u1", "|b1"}


class CorruptStateError(ValueError):
    """Stored bytes whose version or checksum is not what was written."""


def pack_vector(values: FloatArray) -> bytes:
    """Return a float64 vector as version, CRC-32 and raw bytes."""
    return seal(np.ascontiguousarray(values, dtype="<f8").tobytes())


def unpack_vector(raw: bytes) -> FloatArray:
    """Return the vector (n,) that `pack_vector` packed.

    Raises
    ------
    CorruptStateError
        If version, checksum or length are wrong.
    """
    body = unseal(raw)
    if len(body) % 8:
        raise CorruptStateError(f"vector has {len(body)} bytes; wished: a multiple of 8")
    return np.frombuffer(body, dtype="<f8").astype(np.float64)


def seal(body: bytes) -> bytes:
    """Return ``body`` behind version and checksum."""
    return _HEADER.pack(_VERSION, zlib.crc32(body)) + body


def unseal(raw: bytes) -> bytes:
    """Return the body of sealed bytes.

    Raises
    ------
    CorruptStateError
        If version or checksum are wrong.
    """
    if len(raw) < _HEADER.size:
        raise CorruptStateError(f"value has {len(raw)} bytes; wished: at least {_HEADER.size}")
    version, checksum = _HEADER.unpack_from(raw)
    body = raw[_HEADER.size :]
    if version != _VERSION:
        raise CorruptStateError(f"value has version {version}; wished: {_VERSION}")
    if zlib.crc32(body) != checksum:
        raise CorruptStateError(f"value has checksum {zlib.crc32(body):08x}; wished: {checksum:08x}")
    return body


def pack_arrays(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    """Return named arrays and a JSON document as one sealed value."""
    blobs = {name: np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    head = {"meta": meta, "arrays": [[n, a.dtype.str, list(a.shape)] for n, a in blobs.items()]}
    text = msgspec.json.encode(head)
    return seal(struct.pack("<I", len(text)) + text + b"".join(a.tobytes() for a in blobs.values()))


def unpack_arrays(raw: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the document that `pack_arrays` packed.

    Raises
    ------
    CorruptStateError
        If the value is not what was written.
    """
    body = unseal(raw)
    (size,) = struct.unpack_from("<I", body)
    head = msgspec.json.decode(body[4 : 4 + size])
    arrays, start = {}, 4 + size
    for name, dtype, shape in head["arrays"]:
        if dtype not in _DTYPES:
            raise CorruptStateError(f"array '{name}' has type {dtype!r}; wished: one of {sorted(_DTYPES)}")
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype=dtype, count=count, offset=start).reshape(shape).copy()
        start += count * np.dtype(dtype).itemsize
    return arrays, head["meta"]


def to_base64(values: NDArray[Any], dtype: str = "<f8") -> str:
    """Return numbers as base64, float64 unless said, the form arrays take inside JSON events."""
    return binascii.b2a_base64(np.ascontiguousarray(values, dtype=dtype).data, newline=False).decode()


def from_base64(text: str) -> FloatArray:
    """Return the float64 numbers (n,) that `to_base64` encoded."""
    return np.frombuffer(binascii.a2b_base64(text), dtype="<f8").astype(np.float64)


def codes_from_base64(text: str, dtype: str) -> NDArray[Any]:
    """Return the whole numbers (n,) that `to_base64` encoded with this type."""
    return np.frombuffer(binascii.a2b_base64(text), dtype=dtype).astype(np.dtype(dtype).newbyteorder("="))
