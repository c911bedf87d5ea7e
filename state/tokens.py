"""Decision ids and the tokens that let a client's impression or click name its decision."""

import hashlib
import hmac
import re

DECISION_ID = r"^[0-9a-f]{11,12}-[0-9a-f]{4}-[0-9a-f]{12}$"
_DECISION_ID = re.compile(DECISION_ID)


def make_decision_id(at_ms: int, shard: int, random_bits: int) -> str:
    """Return a decision id that embeds its time and shard.

    Parameters
    ----------
    at_ms
        Decision time, ms since 1970.
    shard
        Shard of the subject, 0 to 65535.
    random_bits
        48 random bits.
    """
    return f"{at_ms:011x}-{shard:04x}-{random_bits & 0xFFFFFFFFFFFF:012x}"


def decision_time(decision_id: str) -> int:
    """Return the time embedded in a decision id, ms.

    Raises
    ------
    ValueError
        If it is no decision id.
    """
    return int(_parts(decision_id)[0], 16)


def decision_shard(decision_id: str) -> int:
    """Return the shard embedded in a decision id.

    Raises
    ------
    ValueError
        If it is no decision id.
    """
    return int(_parts(decision_id)[1], 16)


def _parts(decision_id: str) -> list[str]:
    if not _DECISION_ID.fullmatch(decision_id):
        raise ValueError(
            f"decision id is {decision_id[:80]!r}; wished: TIME-SHARD-RANDOM in lower-case hexadecimal"
        )
    return decision_id.split("-")


class TokenSigner:
    """Signs and opens decision tokens.

    Parameters
    ----------
    secret
        Shared by every server and worker of a namespace, at least 16 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError(f"token secret has {len(secret)} bytes; wished: at least 16")
        self._secret = secret

    def sign(self, decision_id: str, subject: str, expires_at: int) -> str:
        """Return the token of a decision for one subject, valid until ``expires_at`` (ms)."""
        return f"{decision_id}.{expires_at:x}.{self._mac(decision_id, subject, expires_at)}"

    def open(self, token: str, subject: str, now_ms: int) -> str | None:
        """Return the decision id, or None where the token is forged, foreign or expired."""
        parts = token.split(".")
        if len(parts) != 3 or not _DECISION_ID.fullmatch(parts[0]):
            return None
        decision_id, expiry, mac = parts
        try:
            expires_at = int(expiry, 16)
        except ValueError:
            return None
        if not hmac.compare_digest(mac.encode(), self._mac(decision_id, subject, expires_at).encode()):
            return None
        return decision_id if now_ms <= expires_at else None

    def _mac(self, decision_id: str, subject: str, expires_at: int) -> str:
        message = f"{decision_id}|{expires_at:x}|{subject}".encode()
        return hashlib.blake2b(message, key=self._secret[:64], digest_size=12).hexdigest()
