"""The shard of a subject: Kafka's default partitioner (murmur2 of the key), as Java and aiokafka use it."""

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash Kafka's Java client uses.

    References
    ----------
    org.apache.kafka.common.utils.Utils.murmur2, whose values the tests hold this function to.
    """
    length = len(data)
    h = (_SEED ^ length) & _MASK
    for offset in range(0, length - length % 4, 4):
        k = (int.from_bytes(data[offset : offset + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    tail = data[length - length % 4 :]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=100_000)
def shard_of(subject: str, shards: int) -> int:
    """Return the shard, 0 to ``shards - 1``, that owns a subject's events; remembered, as hashing is slow."""
    return (murmur2(subject.encode()) & 0x7FFFFFFF) % shards
