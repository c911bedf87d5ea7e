"""Names that stand for user ids in all that is stored, made with a key that is kept elsewhere."""

import hmac
import re

_SHAPE = re.compile(r"p:[0-9a-f]{32}")
_HEX_DIGITS = 32
LONGEST_ID = 128


class Pseudonyms:
    """Turns user ids into pseudonyms.

    Parameters
    ----------
    key
        Secret; empty where ids stay as they are.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, user_id: str) -> str:
        """Return what stands for a user id: ``p:`` and 128 bits of HMAC-SHA-256, hexadecimal.

        What is a pseudonym already stays one, so that what was read can be asked for. Session ids (``s:``)
        and what is too long to be an id stay, too: the one is no user's, the other is refused by its length.
        """
        if not self._key or user_id.startswith("s:") or not 0 < len(user_id) <= LONGEST_ID:
            return user_id
        if _SHAPE.fullmatch(user_id):
            return user_id
        return (
            "p:"
            + hmac.digest(self._key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()[:_HEX_DIGITS]
        )
