"""The erasure list: whose data were erased, and when, by keyed hash; it holds no id.

It is read first by everything that folds, replays, imports or shows events again.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from state.events import SUBJECT_KINDS, DeadLetter, User, subject_of
from state.keys import erased_key, subject_unit, unit_prefix
from state.partition import shard_of
from state.settings import Settings

ANONYMOUS = "s:"


class ErasureKeys:
    """What is keyed with the erasure secret, each use with a key of its own.

    Parameters
    ----------
    secret
        Of the namespace, at least 16 bytes; the list can be read with the same one only.
    """

    def __init__(self, secret: bytes) -> None:
        self._subject, self._receipt, self._proof = (
            hashlib.blake2b(secret, person=context).digest()
            for context in (b"erased subject", b"erasure receipt", b"erasure proof")
        )

    def subject(self, subject: str) -> str:
        """Return the keyed hash a subject goes by in the list."""
        return _mac(self._subject, subject.encode(), 16)

    def receipt_id(self, event_id: str) -> str:
        """Return what the receipt of an erasure event goes by: the event's id may tell who it was."""
        return _mac(self._receipt, event_id.encode(), 16)

    def sign(self, message: bytes) -> str:
        """Return the signature of a receipt's content."""
        return _mac(self._receipt, message, 32)

    def proof(self, event_id: str, subject: str, occurred_at: int) -> str:
        """Return what shows that a server or the command line asked for an erasure."""
        return _mac(self._proof, msgspec.json.encode([event_id, subject, occurred_at]), 16)

    def proves(self, event: User) -> bool:
        """Return whether an erasure was asked for by one who knows the secret."""
        wished = self.proof(event.event_id, event.user_id, event.occurred_at)
        return hmac.compare_digest(wished.encode(), (event.proof or "").encode())


def _mac(key: bytes, message: bytes, size: int) -> str:
    return hashlib.blake2b(message, key=key, digest_size=size).hexdigest()


class _Mark(Struct):
    erased_at: int
    commit: int = 0


_mark_decoder = msgspec.json.Decoder(_Mark)


class ErasureList:
    """The erasure list of one shard.

    Parameters
    ----------
    keys
        What its fields were hashed with.
    stored
        The hash as loaded.
    """

    def __init__(self, keys: ErasureKeys, stored: Mapping[bytes, bytes]) -> None:
        self._keys = keys
        self._marks = {name.decode(): _mark_decoder.decode(raw) for name, raw in stored.items()}

    def erased_at(self, subject: str) -> int:
        """Return the event time of a subject's last erasure, ms; 0 where there was none."""
        mark = self._mark(subject)
        return 0 if mark is None else mark.erased_at

    def note(self, subject: str, erased_at: int) -> str:
        """Put a subject on the list; returns its keyed hash."""
        name = self._keys.subject(subject)
        self._marks[name] = _Mark(erased_at)
        return name

    def skips(self, commit: int, subject: str) -> bool:
        """Return whether what a commit folded of a subject was erased with it or after it."""
        mark = self._mark(subject)
        return mark is not None and commit <= mark.commit

    def _mark(self, subject: str) -> _Mark | None:
        return self._marks.get(self._keys.subject(subject)) if self._marks else None


class Erasures:
    """The erasure lists of all shards, as a replay, an import or a reader of dead letters needs them.

    Parameters
    ----------
    lists
        One a shard, in order.
    """

    def __init__(self, lists: Iterable[ErasureList]) -> None:
        self._lists = list(lists)

    def skips(self, shard: int, commit: int, subject: str) -> bool:
        """Return whether a replay leaves out what a commit of a shard folded of a subject.

        A subject that came back in the very commit of its erasure is told by `voids`: its events occurred
        after the erasure.
        """
        return self._lists[shard].skips(commit, subject)

    def voids(self, subject: str, occurred_at: int) -> bool:
        """Return whether an event occurred before its subject's erasure, and so must have no effect."""
        return occurred_at <= self._lists[shard_of(subject, len(self._lists))].erased_at(subject)

    def hides(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is of a subject that was erased after it was written."""
        if letter.topic not in SUBJECT_KINDS:
            return False
        named = subjects_named(_unpacked(letter.key), _unpacked(letter.raw))
        return any(self.voids(subject, letter.occurred_at) for subject in named)


def subjects_named(key: bytes | None, raw: bytes | None) -> set[str]:
    """Return whom a record is about, by its key and by its value; never raises on bad input.

    A dead letter is about whom the record in it is about, an outcome about whose decision it closes.
    """
    try:
        value: Any = msgspec.json.decode(raw or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    event: dict[str, Any] = value if isinstance(value, dict) else {}
    user, session, subject = (_text(event.get(name)) for name in ("user_id", "session_id", "subject"))
    named = {(key or b"").decode(errors="replace"), subject, user or (session and subject_of(None, session))}
    if "raw" in event and "reason" in event:
        named |= subjects_named(_unpacked(event.get("key")), _unpacked(event["raw"]))
    return named - {""}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _unpacked(encoded: object) -> bytes:
    try:
        return base64.b64decode(_text(encoded))
    except (binascii.Error, ValueError):
        return b""


async def read_erasures(redis: Any, settings: Settings) -> Erasures:
    """Return the erasure lists of a namespace."""
    keys = ErasureKeys(settings.erasure_key())
    prefixes = [unit_prefix(settings.namespace, subject_unit(n)) for n in range(settings.shards)]
    return Erasures([ErasureList(keys, await redis.hgetall(erased_key(prefix))) for prefix in prefixes])
