"""The store as routes meet it: when it does not answer, they say so and nothing else of it."""

from collections.abc import Awaitable
from typing import TypeVar

from litestar.exceptions import ServiceUnavailableException
from redis.exceptions import RedisError

T = TypeVar("T")
UNREACHABLE = (RedisError, OSError, TimeoutError)


async def from_store(reading: Awaitable[T]) -> T:
    """Return what a reading of the store gives.

    Raises
    ------
    ServiceUnavailableException
        If the store does not answer. Its own words are not passed on: they may hold its address.
    """
    try:
        return await reading
    except UNREACHABLE as error:
        detail = f"the store does not answer: {type(error).__name__}; ask again"
        raise ServiceUnavailableException(detail=detail) from None
