"""Page tokens: what earlier pages of a slate have shown, signed, so that a further page repeats nothing."""

import base64
import binascii
import hashlib
import hmac

import numpy as np

from serving.merchandising import NO_HASHES, Hashes
from state.decoding import Refusal

FIRST = "first"
"""Asks for a first page that others follow."""
MOST = 1_000
"""Items of all pages together."""
_MAC = 12


class Pages:
    """Signs and reads page tokens.

    Parameters
    ----------
    secret
        Of the namespace, at least 16 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(b"pages", key=secret[:64], digest_size=32).digest()

    def read(self, token: str | None, surface: str, subject: str) -> Hashes:
        """Return the hashes of the items earlier pages have shown, in order.

        Raises
        ------
        Refusal
            If the token is none of this visitor's on this surface.
        """
        if token is None or token == FIRST:
            return NO_HASHES
        wished = f"'{FIRST}', or `next_page` of an answer to the same visitor on the same surface"
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise Refusal("bad_page", "page", token, wished) from None
        mac, shown = raw[:_MAC], raw[_MAC:]
        if len(shown) % 8 or not hmac.compare_digest(mac, self._mac(shown, surface, subject)):
            raise Refusal("bad_page", "page", token, wished)
        return np.frombuffer(shown, "<u8").astype(np.uint64)

    def token(self, shown: Hashes, surface: str, subject: str) -> str | None:
        """Return the token of the page after those that have shown these; None where there is none."""
        if not len(shown) or len(shown) >= MOST:
            return None
        raw = shown.astype("<u8").tobytes()
        return base64.urlsafe_b64encode(self._mac(raw, surface, subject) + raw).decode()

    def _mac(self, shown: bytes, surface: str, subject: str) -> bytes:
        named = f"{len(surface)}|{surface}{subject}|".encode()
        return hashlib.blake2b(named + shown, key=self._secret, digest_size=_MAC).digest()
