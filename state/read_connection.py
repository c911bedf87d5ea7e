"""Reads over one connection that is kept for them, where a pool's turn would cost more than the read."""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio as aioredis


class ReadConnection:
    """One connection of a client's kind, for one read at a time.

    A client takes a connection out of its pool, looks whether it is alive and puts it back: around each
    read that is most of its price.

    Parameters
    ----------
    client
        Of a single store, which says where it is and how to log in. Its time limit is not used here.
    timeout_s
        Of one read, connecting included where that is needed.
    """

    def __init__(self, client: aioredis.Redis, timeout_s: float) -> None:
        self._pool: Any = client.connection_pool
        self._timeout_s = timeout_s
        self._connection: Any = None

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys, None where there is none.

        Raises
        ------
        RedisError, OSError, TimeoutError
            If the store refuses, cannot be reached, or takes longer than it may; the next read connects anew.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._mget(keys)
        except BaseException:  # a late answer must not be taken for the next one's
            await self.aclose()
            raise

    async def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        if self._connection is None:
            self._connection = self._pool.make_connection()
            self._connection.socket_timeout = None  # the limit of `mget` holds for all of it
            await self._connection.connect()
        await self._connection.send_command("MGET", *keys, check_health=False)
        values: list[bytes | None] = await self._connection.read_response()
        return values

    async def aclose(self) -> None:
        """Close the connection, without waiting for the other side."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
