"""Entries of the erasure list in full, and the signed receipts made of them."""

import hmac
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from state.erasure import ErasureKeys
from state.keys import erased_key, subject_unit, unit_prefix
from state.partition import shard_of
from state.settings import Settings

# A new entry of the same subject, written meanwhile by its shard, must not be overwritten.
_REPLACE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class Removed(Struct, forbid_unknown_fields=True):
    """What an erasure removed, by kind of key.

    Attributes
    ----------
    records
        Subject records.
    decisions
        Stored decisions, open or closed.
    open_decisions
        Decisions whose attribution window was open.
    sessions
        Sessions of the shared session index.
    merged_sessions
        Anonymous sessions that had turned out to be the user's; what was theirs is in the counts above.
    """

    records: int = 0
    decisions: int = 0
    open_decisions: int = 0
    sessions: int = 0
    merged_sessions: int = 0


class Erasure(Struct, kw_only=True, omit_defaults=True):
    """One entry of the erasure list.

    Attributes
    ----------
    receipt_id
        Keyed hash of the event's id.
    erased_at
        Its event time, ms: what occurred until then has no effect when it comes later.
    why
        As given with the request.
    removed
        All but the stored decisions.
    merged
        Shard and keyed hash of each anonymous session that is erased with the user.
    rebuild_by, rebuilt_at
        When shared weights have to be, and were, rebuilt without the subject, ms.
    kafka_ends_at
        When Kafka's longest retention of the subject's raw events ends, ms.
    commit, decisions
        Number of the commit that erased, and stored decisions it removed; filled in by the commit script.
    """

    receipt_id: str
    erased_at: int
    why: str = ""
    removed: Removed
    merged: list[tuple[int, str]] = []
    rebuild_by: int
    rebuilt_at: int | None = None
    kafka_ends_at: int
    commit: int = 0
    decisions: int = 0


class Receipt(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is handed out of an erasure; ``subject`` is the keyed hash, times are ms since 1970."""

    namespace: str
    subject: str
    receipt_id: str
    erased_at: int
    why: str
    removed: Removed
    rebuild_by: int
    rebuilt_at: int | None
    kafka_ends_at: int
    signature: str = ""


class ReceiptError(ValueError):
    """A document that is no receipt."""


_decode_erasure = msgspec.json.Decoder(Erasure).decode
encode_erasure = msgspec.json.Encoder().encode


def signed(receipt: Receipt, keys: ErasureKeys) -> Receipt:
    """Return a receipt with its signature."""
    return msgspec.structs.replace(receipt, signature=keys.sign(_content(receipt)))


def verifies(receipt: Receipt, keys: ErasureKeys) -> bool:
    """Return whether a receipt is as it was signed."""
    return hmac.compare_digest(keys.sign(_content(receipt)).encode(), receipt.signature.encode())


def _content(receipt: Receipt) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(receipt, signature=""))


def decode_receipt(raw: bytes) -> Receipt:
    """Return the receipt of a document.

    Raises
    ------
    ReceiptError
        If it is none.
    """
    try:
        return msgspec.json.decode(raw, type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReceiptError(f"the document is no receipt of an erasure: {error}") from None


async def read_receipt(redis: Any, settings: Settings, subject: str) -> Receipt | None:
    """Return the receipt of a subject's last erasure; None before it and its merged sessions are erased."""
    keys = ErasureKeys(settings.erasure_key())
    name = keys.subject(subject)
    entry = await _entry(redis, settings, shard_of(subject, settings.shards), name)
    if entry is None:
        return None
    merged = [await _entry(redis, settings, *place) for place in entry.merged]
    done = [one for one in merged if one is not None and one.erased_at >= entry.erased_at]
    if len(done) < len(merged):
        return None
    return signed(_receipt(settings.namespace, name, [entry, *done]), keys)


def _receipt(namespace: str, name: str, entries: Sequence[Erasure]) -> Receipt:
    first, rebuilt = entries[0], [entry.rebuilt_at for entry in entries]
    removed = Removed(
        records=sum(entry.removed.records for entry in entries),
        decisions=sum(entry.decisions for entry in entries),
        open_decisions=sum(entry.removed.open_decisions for entry in entries),
        sessions=sum(entry.removed.sessions for entry in entries),
        merged_sessions=len(entries) - 1,
    )
    return Receipt(
        namespace=namespace,
        subject=name,
        receipt_id=first.receipt_id,
        erased_at=first.erased_at,
        why=first.why,
        removed=removed,
        rebuild_by=first.rebuild_by,
        rebuilt_at=None if None in rebuilt else max(at for at in rebuilt if at is not None),
        kafka_ends_at=max(entry.kafka_ends_at for entry in entries),
    )


async def _entry(redis: Any, settings: Settings, shard: int, name: str) -> Erasure | None:
    raw = await redis.hget(erased_key(unit_prefix(settings.namespace, subject_unit(shard))), name)
    return None if raw is None else _decode_erasure(raw)


async def mark_rebuilt(redis: Any, prefix: str, commit: int, at_ms: int) -> int:
    """Note on every entry of a shard up to a commit that shared weights were rebuilt without its subject.

    Parameters
    ----------
    redis, prefix
        Client of the store, key prefix of the shard.
    commit
        Last commit whose erasures the rebuild left out.
    at_ms
        When it ended.

    Returns
    -------
    int
        How many entries were still waiting for it.
    """
    key, marked = erased_key(prefix), 0
    for name, raw in (await redis.hgetall(key)).items():
        entry = _decode_erasure(raw)
        if entry.rebuilt_at is None and entry.commit <= commit:
            rebuilt = encode_erasure(msgspec.structs.replace(entry, rebuilt_at=at_ms))
            marked += int(await redis.eval(_REPLACE, 1, key, name, raw, rebuilt))
    return marked


async def waiting_for_rebuild(redis: Any, settings: Settings) -> int:
    """Return how many erasures shared weights were not yet rebuilt without."""
    waiting = 0
    for shard in range(settings.shards):
        stored = await redis.hgetall(erased_key(unit_prefix(settings.namespace, subject_unit(shard))))
        waiting += sum(_decode_erasure(raw).rebuilt_at is None for raw in stored.values())
    return waiting
