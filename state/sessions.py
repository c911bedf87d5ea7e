"""Stored sessions: what the session index of any server is built from, and the number each goes by."""

import msgspec
from msgspec import Struct, field

from state.subject import id_hash


class SessionRow(Struct, array_like=True):
    """One session: items in order and when each was touched, ms."""

    items: list[str] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)


_decoder = msgspec.msgpack.Decoder(SessionRow)
encode_session = msgspec.msgpack.Encoder().encode


def decode_session(raw: bytes) -> SessionRow:
    """Return a stored session."""
    return _decoder.decode(raw)


def session_hash(subject: str, session_id: str) -> int:
    """Return the signed 64-bit number of a subject's session."""
    unsigned = id_hash(f"{subject}|{session_id}")
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned
