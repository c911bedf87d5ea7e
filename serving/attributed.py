"""Attribution counts as the shards have committed them."""

from typing import Any

from litestar.exceptions import ServiceUnavailableException
from redis.exceptions import RedisError

from state.attributed import AttributionCounts, read_attribution
from state.settings import Settings


class AttributionReader:
    """Reads the counts of all shards.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._settings, self._redis = settings, redis

    async def read(self) -> AttributionCounts:
        """Return the counts of this moment.

        Raises
        ------
        ServiceUnavailableException
            If the store does not answer: half a sum would be no count.
        """
        try:
            return await read_attribution(self._redis, self._settings)
        except (RedisError, OSError, TimeoutError):
            raise ServiceUnavailableException("the store that holds the counts does not answer") from None
