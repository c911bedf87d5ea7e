"""Commands packed in compiled code: byte for byte what redis-py sends."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import DataError

from state.packed_connection import packed

ARGUMENTS = st.one_of(st.binary(), st.text(st.characters(codec="utf-8")), st.integers(), st.floats())


@given(st.sampled_from(["EVAL", "XREAD", "CONFIG GET"]), st.lists(ARGUMENTS))
def test_a_command_is_sent_as_redis_py_would(name: str, given: list[Any]) -> None:
    ours, theirs = packed(Connection)(), Connection()
    assert b"".join(ours.pack_command(name, *given)) == b"".join(theirs.pack_command(name, *given))


def test_what_hiredis_does_not_know_redis_py_sends_or_refuses() -> None:
    ours = packed(Connection)()
    assert b"".join(ours.pack_command("SET", "key", bytearray(b"abc"))).endswith(b"$3\r\nabc\r\n")
    with pytest.raises(DataError):
        ours.pack_command("SET", "key", None)
