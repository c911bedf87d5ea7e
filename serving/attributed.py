"""Attribution counts as the shards have committed them."""

from typing import Any

from serving.store import from_store
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
        return await from_store(read_attribution(self._redis, self._settings))
