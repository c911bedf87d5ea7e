"""Asking for the erasure of a subject, and waiting for its receipt: what server and command line share."""

import asyncio
import time
import uuid
from typing import Any

from state.decoding import Refusal
from state.erasure import ANONYMOUS, ErasureKeys
from state.events import User
from state.keys import decisions_of_key, subject_key, subject_unit, unit_prefix
from state.partition import shard_of
from state.pseudonyms import Pseudonyms
from state.receipts import Receipt, read_receipt
from state.settings import Settings

_POLL_S = 0.02
_LONGEST = 128
_LONGEST_WHY = 512


def stored_subject(settings: Settings, subject: str) -> str:
    """Return the name under which a subject that may be asked for is stored.

    Raises
    ------
    Refusal
        If it is no user id of 1 to 128 characters, nor ``s:`` and such a session id.
    """
    if not 1 <= len(subject.removeprefix(ANONYMOUS)) <= _LONGEST:
        wished = f"1 to {_LONGEST} characters, for an anonymous session after {ANONYMOUS!r}"
        raise Refusal("out_of_bounds", "user_id", subject, wished)
    return Pseudonyms(settings.pseudonym_key()).of(subject)


def erase_event(settings: Settings, subject: str, why: str) -> User:
    """Return the event that erases a subject, with the proof an anonymous session needs.

    Raises
    ------
    Refusal
        If the reason is longer than 512 characters.
    """
    if len(why) > _LONGEST_WHY:
        raise Refusal("out_of_bounds", "why", why, f"at most {_LONGEST_WHY} characters")
    event_id, now_ms = uuid.uuid4().hex, time.time_ns() // 1_000_000
    proof = ErasureKeys(settings.erasure_key()).proof(event_id, subject, now_ms)
    return User(event_id=event_id, occurred_at=now_ms, user_id=subject, erase=True, why=why, proof=proof)


async def standing_receipt(redis: Any, settings: Settings, subject: str) -> Receipt | None:
    """Return the receipt of an erasure after which nothing of the subject has come; None otherwise."""
    receipt = await read_receipt(redis, settings, subject)
    return None if receipt is None or await _is_stored(redis, settings, subject) else receipt


async def wait_for_receipt(redis: Any, settings: Settings, event: User, wait_s: float) -> Receipt | None:
    """Return the receipt once an erasure is applied; None where that takes longer than ``wait_s``.

    Of two erasures at once the second finds nothing to remove: the receipt of the first is its receipt too.
    """
    deadline = time.monotonic() + wait_s
    while True:
        receipt = await read_receipt(redis, settings, event.user_id)
        if receipt is not None and receipt.erased_at >= event.occurred_at:
            return receipt
        if receipt is not None and not await _is_stored(redis, settings, event.user_id):
            return receipt
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(_POLL_S)


async def _is_stored(redis: Any, settings: Settings, subject: str) -> bool:
    prefix = unit_prefix(settings.namespace, subject_unit(shard_of(subject, settings.shards)))
    return bool(await redis.exists(subject_key(prefix, subject), decisions_of_key(prefix, subject)))
