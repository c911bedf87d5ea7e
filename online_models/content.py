"""Content vectors: what an item's attributes say, as a unit vector, before anybody has clicked it."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike

from online_models.arrays import VectorArray

Attribute = str | float | bool | Sequence[str] | None
"""Text (words), number (bucket), flag, or a list of labels (categories, tags)."""

_WORD = re.compile(r"\w+")


def tokens(field: str, value: Attribute) -> Iterator[str]:
    """Tokens of one attribute: words of a text, labels of a list, a flag, a number and its neighbours.

    Numbers fall into buckets of a factor of sqrt(2); the two neighbouring buckets are tokens too, so near
    numbers share tokens. Nothing and numbers that are not finite have none.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, bool):
        yield f"{field}={value}"
    elif isinstance(value, str):
        yield from (f"{field}:{word}" for word in _WORD.findall(value.casefold()))
    elif isinstance(value, (int, float)):
        bucket = round(2 * math.copysign(math.log2(1.0 + abs(value)), value))
        yield from (f"{field}~{near}" for near in (bucket - 1, bucket, bucket + 1))
    else:
        yield from (f"{field}={str(label).casefold()}" for label in value)


def _signs(token: str, dim: int) -> VectorArray:
    digest = blake2b(token.encode(), digest_size=(dim + 7) // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8))[:dim].astype(np.float32) * 2.0 - 1.0


def content_vector(attributes: Mapping[str, Attribute], dim: int = 64) -> VectorArray:
    """Vector of an item's attributes, the same in every process.

    Each token stands for a vector of +-1 taken from its BLAKE2 hash; a field is the mean of its tokens times
    the square root of their number, so a long title does not drown a category. Dot products of such sums
    approximate the number of shared tokens (Johnson-Lindenstrauss with signs: Achlioptas 2003).

    Parameters
    ----------
    attributes
        Field name -> text, number, flag or list of labels.
    dim
        Length of the vector, 1..512.

    Returns
    -------
    Unit vector of shape (dim,); all zero when no attribute has a token.

    Raises
    ------
    ValueError
        If `dim` is out of range.

    Examples
    --------
    >>> red = content_vector({"title": "red shoe", "category": ["shoes"]})
    >>> blue = content_vector({"title": "blue shoe", "category": ["shoes"]})
    >>> book = content_vector({"title": "deep sea", "category": ["books"]})
    >>> bool(red @ blue > red @ book + 0.3)
    True
    """
    if not 1 <= dim <= 512:
        msg = f"dim is {dim}, wanted 1..512"
        raise ValueError(msg)
    total = np.zeros(dim, np.float32)
    for field, value in attributes.items():
        signs = [_signs(token, dim) for token in tokens(field, value)]
        if signs:
            total += np.sum(signs, axis=0) / math.sqrt(len(signs))
    return unit(total)


def unit(vector: ArrayLike) -> VectorArray:
    """Divide a vector by its length; zero stays zero.

    Raises
    ------
    ValueError
        If the vector is not one-dimensional or holds a number that is not finite.
    """
    flat = np.asarray(vector, dtype=np.float32)
    if flat.ndim != 1 or not np.all(np.isfinite(flat)):
        msg = f"vector of shape {flat.shape} is not flat or not finite, wanted finite numbers of shape (dim,)"
        raise ValueError(msg)
    length = float(np.linalg.norm(flat))
    return flat / np.float32(length) if length > 0 else flat


def projected(vector: ArrayLike, dim: int) -> VectorArray:
    """Bring an external vector of any length to `dim` numbers by a fixed random projection.

    Dot products survive up to noise of about 1 / sqrt(dim) (Johnson-Lindenstrauss); a vector that has `dim`
    numbers already is only normalised. The projection depends on the two lengths alone, never on the process.

    Returns
    -------
    Unit vector of shape (dim,).
    """
    flat = unit(vector)
    if flat.size == dim:
        return flat
    signs = np.stack([_signs(f"projection:{n}", dim) for n in range(flat.size)])
    return unit(flat @ signs)
