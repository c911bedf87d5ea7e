"""API keys: who may do what over HTTP, in a file that holds hashes and never a key."""

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from state.events import EpochMs, Name
from state.settings import SettingsError

Scope = Literal["read", "events", "catalogue", "observe", "tune", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "events", "catalogue", "observe", "tune", "admin")
_IMPLIED: dict[Scope, tuple[Scope, ...]] = {"tune": ("observe",), "admin": SCOPES}
_PREFIX = "hwk_"
_ID_BYTES, _SECRET_BYTES = 6, 32
_ID_END = len(_PREFIX) + 2 * _ID_BYTES
LENGTH = _ID_END + 1 + 43
"""Characters of a key: a prefix scanners find, an id that is no secret, and 256 random bits in base64."""
_FILE_MODE = 0o600


class ApiKey(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A key as it is kept.

    Attributes
    ----------
    id
        Stands in the key in clear, and tells which entry it is.
    name
        Who holds it, as the audit record and logs say it.
    scopes
        What it may do.
    hash
        SHA-256 of the whole key, hexadecimal. Keys are 256 random bits, so nothing slower is needed.
    created_at, expires_at, revoked_at
        Times, ms; one that is over is refused.
    rate, burst
        Requests a second and at once for each server process; the settings' where None.
    """

    id: Annotated[str, Meta(pattern=f"^[0-9a-f]{{{2 * _ID_BYTES}}}$")]
    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=len(SCOPES))]
    hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    created_at: EpochMs
    expires_at: EpochMs | None = None
    revoked_at: EpochMs | None = None
    rate: Annotated[float, Meta(gt=0.0, le=1e6)] | None = None
    burst: Annotated[float, Meta(ge=1.0, le=1e6)] | None = None

    def is_usable(self, at_ms: int) -> bool:
        """Return whether it is neither expired nor revoked at a time."""
        ends = [end for end in (self.expires_at, self.revoked_at) if end is not None]
        return all(at_ms < end for end in ends)

    def allowed(self) -> frozenset[Scope]:
        """Return its scopes and those they imply: ``admin`` all, ``tune`` also ``observe``."""
        return frozenset(self.scopes).union(*(_IMPLIED.get(scope, ()) for scope in self.scopes))


class _KeyFile(Struct, forbid_unknown_fields=True):
    version: Literal[1]
    keys: Annotated[list[ApiKey], Meta(max_length=10_000)]


def new_key(name: str, scopes: Sequence[Scope], at_ms: int) -> tuple[str, ApiKey]:
    """Return a key, to be shown once, and what is kept of it."""
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    kept = {
        "id": key_id, "name": name, "scopes": list(scopes), "hash": digest(key.encode()).hex(),
        "created_at": at_ms,
    }  # fmt: skip
    return key, msgspec.convert(kept, ApiKey)


def digest(key: bytes) -> bytes:
    """Return what is kept of a key, 32 bytes."""
    return hashlib.sha256(key).digest()


def id_of(key: bytes) -> bytes | None:
    """Return the id a key carries; None where it cannot be a key."""
    if len(key) != LENGTH or not key.startswith(_PREFIX.encode()) or key[_ID_END] != ord("_"):
        return None
    return key[len(_PREFIX) : _ID_END]


def is_same(kept: bytes, key: bytes) -> bool:
    """Return whether a key is the one whose digest is kept, in a time that tells nothing."""
    return hmac.compare_digest(kept, digest(key))


def revoke(keys: Sequence[ApiKey], wanted: str, at_ms: int) -> tuple[list[ApiKey], list[ApiKey]]:
    """Return all keys after those of an id or a name were revoked, and the revoked ones."""
    hit = [key for key in keys if wanted in (key.id, key.name) and key.is_usable(at_ms)]
    ended = {key.id: replace(key, revoked_at=at_ms) for key in hit}
    return [ended.get(key.id, key) for key in keys], list(ended.values())


def read_keys(path: str | Path) -> list[ApiKey]:
    """Return the keys of a file.

    Raises
    ------
    SettingsError
        If it cannot be read, or is no file of keys.
    """
    try:
        keys = msgspec.json.decode(Path(path).read_bytes(), type=_KeyFile).keys
    except OSError as error:
        raise SettingsError(
            f"setting HEADWATER_KEYS_FILE has value {str(path)!r}; wished: a readable file ({error.strerror})"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(
            f"setting HEADWATER_KEYS_FILE has value {str(path)!r}; wished: a file of keys ({error})"
        ) from None
    if len({key.id for key in keys}) < len(keys):
        raise SettingsError(
            f"setting HEADWATER_KEYS_FILE has value {str(path)!r}; wished: each id once in the file"
        )
    return keys


def write_keys(path: str | Path, keys: Sequence[ApiKey]) -> None:
    """Replace a file of keys at once: whoever reads it meanwhile sees the old or the new one, whole."""
    path = Path(path)
    text = msgspec.json.format(msgspec.json.encode(_KeyFile(1, list(keys))), indent=2)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777 if path.exists() else _FILE_MODE)
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
