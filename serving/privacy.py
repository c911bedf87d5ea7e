"""What a person has a right to, over HTTP: to see what is stored of them, to have it erased, to a receipt."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED
from msgspec import Struct

from serving.gateway import Addressed, Gateway
from serving.store import UNREACHABLE, from_store
from state.access import Access, read_access
from state.erasing import erase_event, standing_receipt, stored_subject, wait_for_receipt
from state.erasure import ErasureKeys
from state.events import encode
from state.partition import shard_of
from state.receipts import Receipt, read_receipt
from state.settings import Settings


class Pending(Struct):
    """An erasure that is published and not applied yet; ask for its receipt again."""

    receipt_id: str
    status: str = "pending"


class Privacy:
    """The service behind ``/v1/users``.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store that may wait for answers.
    gateway
        Publishes erasures.
    """

    def __init__(self, settings: Settings, redis: Any, gateway: Gateway) -> None:
        self._settings, self._redis, self._gateway = settings, redis, gateway

    async def erase(self, subject: str, why: str, wait_s: float) -> Receipt | Pending:
        """Erase a subject and return the receipt, or what to ask for it by where it takes longer.

        Raises
        ------
        ServiceUnavailableException
            If store or broker cannot be reached; nothing is erased then.
        """
        subject = stored_subject(self._settings, subject)
        event = erase_event(self._settings, subject, why)
        standing = await from_store(standing_receipt(self._redis, self._settings, subject))
        if standing is not None:
            return standing
        shard = shard_of(subject, self._settings.shards)
        verdict = await self._gateway.send(Addressed("users", event, subject, shard, encode(event)))
        if not verdict.accepted:
            raise ServiceUnavailableException(detail=verdict.detail)
        try:
            receipt = await wait_for_receipt(self._redis, self._settings, event, wait_s)
        except UNREACHABLE:
            receipt = None  # it is published, and will be applied
        keys = ErasureKeys(self._settings.erasure_key())
        return receipt or Pending(keys.receipt_id(event.event_id))

    async def receipt(self, subject: str, receipt_id: str | None) -> Receipt:
        """Return the receipt of a subject's last erasure.

        Raises
        ------
        NotFoundException
            If there was none, or another than the one asked for.
        """
        stored = stored_subject(self._settings, subject)
        receipt = await from_store(read_receipt(self._redis, self._settings, stored))
        if receipt is None or receipt_id not in (None, receipt.receipt_id):
            raise NotFoundException(detail="no such erasure has been applied yet")
        return receipt

    async def access(self, subject: str) -> Access:
        """Return everything the store holds of a subject."""
        stored = stored_subject(self._settings, subject)
        return await from_store(read_access(self._redis, self._settings, stored))


_UserId = Annotated[
    str, Parameter(pattern=r"^(s:)?[\s\S]{1,128}$", description="A user id, or s: and a session id.")
]
_Why = Annotated[str, Parameter(max_length=512, description="Kept with the erasure; name nobody in it.")]
_Wait = Annotated[int, Parameter(ge=0, le=30_000, description="How long to wait for the receipt, ms.")]


_PENDING = ResponseSpec(data_container=Pending, description="The erasure is published, and not yet applied")


@delete(
    "/v1/users/{user_id:str}",
    status_code=HTTP_200_OK,
    summary="Erase a visitor",
    responses={HTTP_202_ACCEPTED: _PENDING, HTTP_200_OK: ResponseSpec(Receipt, description="It is applied")},
)
async def delete_user(
    user_id: _UserId, request: Request[Any, Any, State], why: _Why = "", wait_ms: _Wait = 5_000
) -> Response[Receipt | Pending]:
    """Erase a user, or an anonymous session (``s:`` and its id); answers with the signed receipt."""
    answer = await request.app.state.privacy.erase(user_id, why, wait_ms / 1000)
    status = HTTP_200_OK if isinstance(answer, Receipt) else HTTP_202_ACCEPTED
    return Response(answer, status_code=status)


@get(
    "/v1/users/{user_id:str}",
    summary="Everything stored of a visitor",
    responses={HTTP_200_OK: ResponseSpec(Access, description="All of it")},
)
async def get_user(user_id: _UserId, request: Request[Any, Any, State]) -> Response[bytes]:
    """Return the record, decisions and sessions of a user or an anonymous session."""
    access = await request.app.state.privacy.access(user_id)
    return Response(msgspec.json.encode(access), media_type="application/json")


@get("/v1/users/{user_id:str}/receipt", summary="The receipt of an erasure")
async def get_receipt(
    user_id: _UserId, request: Request[Any, Any, State], receipt_id: str | None = None
) -> Receipt:
    """Return the signed receipt of the last erasure of a user or an anonymous session."""
    receipt: Receipt = await request.app.state.privacy.receipt(user_id, receipt_id)
    return receipt
