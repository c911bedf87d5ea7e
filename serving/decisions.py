"""Decisions of the past, as the engine folded them into the store."""

from typing import Any

import msgspec
from litestar.exceptions import NotFoundException

from serving.problems import BadRequest
from serving.store import from_store
from state.events import Decision
from state.keys import decision_key, subject_unit, unit_prefix
from state.settings import Settings
from state.tokens import decision_shard

_decode = msgspec.json.Decoder(Decision).decode


class DecisionReader:
    """Reads logged decisions, each from the shard its id names.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        A client that may wait for answers.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._settings, self._redis = settings, redis

    async def read(self, decision_id: str) -> Decision:
        """Return a decision as it was logged.

        Raises
        ------
        BadRequest
            If it is no decision id.
        NotFoundException
            If none is stored: not folded yet, older than its retention, never logged, erased, or of no
            shard there is.
        ServiceUnavailableException
            If the store does not answer.
        """
        key = decision_key(self._prefix(decision_id), decision_id)
        raw: bytes | None = await from_store(self._redis.get(key))
        if raw is None:
            raise NotFoundException(detail=self._missing(decision_id))
        return _decode(raw)

    def _missing(self, decision_id: str) -> str:
        days = self._settings.decision_ttl_s / 86_400
        return (
            f"no decision {decision_id} is stored: it is not folded yet (ask again in a second), is older "
            f"than {days:g} days, was answered from the rung static or without consent, of which nothing is "
            "stored, or was erased with its visitor"
        )

    def _prefix(self, decision_id: str) -> str:
        try:
            shard = decision_shard(decision_id)
        except ValueError as error:
            raise BadRequest("decision_id", str(error)) from None
        if shard >= self._settings.shards:
            detail = f"no decision {decision_id} is stored: there is no shard {shard}"
            raise NotFoundException(detail=detail)
        return unit_prefix(self._settings.namespace, subject_unit(shard))
