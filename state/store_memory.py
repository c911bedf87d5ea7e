"""What keys, fields and entries cost in a store's memory, as its allocator hands it out.

Two layouts, each measured (docs/sizing.md): Valkey 9 on the C library's allocator, which is the embedded
store, and Redis 7 on jemalloc. All lengths are bytes; arrays of lengths give arrays of costs.
"""

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
LISTPACK_FIELDS = 512
LISTPACK_VALUE = 64
_EMBEDDED = 128
_SHORT = 44
_BUCKET, _BUCKET_ENTRIES = 64, 7
_POINTER, _OBJECT = 8, 16
_ENTRY = 24


class StoreLayout(Protocol):
    """How a store lays out what it holds."""

    name: str

    def string(self, key: ArrayLike, value: ArrayLike) -> FloatArray:
        """Return the cost of keys with a value and a time to live, without the tables they are found by."""

    def field(self, name: ArrayLike, value: ArrayLike) -> FloatArray:
        """Return the cost of fields of large hashes, without their table."""

    def table(self, entries: int) -> float:
        """Return the cost of a hash table with so many entries."""

    def moving(self, entries: int) -> float:
        """Return what the table before the last doubling still costs a hash that grew to this size."""

    def block(self, size: ArrayLike) -> FloatArray:
        """Return what the allocator hands out for a size."""


class ValkeyOnLibc:
    """Valkey 8.1 and later: open tables of 64-byte buckets, small values inside their entries."""

    name = "valkey"

    def string(self, key: ArrayLike, value: ArrayLike) -> FloatArray:
        """Return the cost of keys with a value and a time to live, without the tables they are found by."""
        head = _OBJECT + 8 + 1 + _text(key)
        return self._entry(head, head, _value(value))

    def field(self, name: ArrayLike, value: ArrayLike) -> FloatArray:
        """Return the cost of fields of large hashes, without their table."""
        return self._entry(_text(name), _POINTER + _text(name), _value(value))

    def _entry(self, whole: IntArray, head: IntArray, value: IntArray) -> FloatArray:
        apart = self.block(head) + self.block(value)
        return np.where(whole + value <= _EMBEDDED, self.block(whole + value), apart)

    def table(self, entries: int) -> float:
        """Return the cost of a hash table with so many entries.

        Buckets double when there is an entry for each of their places; those that overflow before that have
        another bucket chained to them.
        """
        if not entries:
            return 0.0
        buckets = _power_of_two(entries / _BUCKET_ENTRIES)
        return buckets * _BUCKET + self._chained(buckets, entries / buckets)

    def moving(self, entries: int) -> float:
        """Return what the table before the last doubling still costs a hash that grew to this size.

        Each addition moves one bucket; the store itself moves those of its keys, but not those of a hash.
        """
        before = _power_of_two(entries / _BUCKET_ENTRIES) // 2
        moved = entries - _BUCKET_ENTRIES * before
        if not before or moved >= before:
            return 0.0
        return before * _BUCKET + self._chained(before, _BUCKET_ENTRIES) * (1 - moved / before)

    def _chained(self, buckets: int, mean: float) -> float:
        """Return the cost of buckets chained to those that overflow, at a mean number of entries."""
        overflowing = sum(_poisson_at_least(mean, size) for size in (8, 14, 20))
        return buckets * overflowing * float(self.block(_BUCKET))

    def block(self, size: ArrayLike) -> FloatArray:
        """Return what the allocator hands out for a size: 16-byte steps, less a header of 8."""
        steps = np.ceil((np.asarray(size, np.float64) + 8) / 16)
        return np.asarray(np.maximum(24, 16 * steps - 8), np.float64)


class RedisOnJemalloc:
    """Redis 7: chained tables of pointers, an object and a string for each key and value."""

    name = "redis"

    def string(self, key: ArrayLike, value: ArrayLike) -> FloatArray:
        """Return the cost of keys with a value and a time to live, without the tables they are found by."""
        apart = self.block(_OBJECT) + self.block(_value(value))
        short = np.asarray(value) <= _SHORT
        held = np.where(short, self.block(_OBJECT + _value(value)), apart)
        return np.asarray(2 * self.block(_ENTRY) + self.block(_text(key)) + held)

    def field(self, name: ArrayLike, value: ArrayLike) -> FloatArray:
        """Return the cost of fields of large hashes, without their table."""
        return np.asarray(self.block(_ENTRY) + self.block(_text(name)) + self.block(_value(value)))

    def table(self, entries: int) -> float:
        """Return the cost of a hash table with so many entries: a pointer for each of a power of two."""
        return float(_POINTER * _power_of_two(entries)) if entries else 0.0

    def moving(self, entries: int) -> float:
        """Return what the table before the last doubling still costs a hash that grew to this size.

        An addition looks for the field first, and each of the two moves a bucket.
        """
        before = _power_of_two(entries) // 2
        return float(_POINTER * before) if 2 * (entries - before) < before else 0.0

    def block(self, size: ArrayLike) -> FloatArray:
        """Return what the allocator hands out for a size: 16-byte steps, from 128 four to a doubling."""
        wished = np.maximum(np.asarray(size, np.float64), 1)
        doubling = np.ceil(np.log2(wished)) - 1
        step = np.where(wished > _EMBEDDED, np.exp2(np.maximum(doubling, 0) - 2), 16)
        return np.asarray(np.where(wished <= 8, 8, np.ceil(wished / step) * step), np.float64)


LAYOUTS: dict[str, StoreLayout] = {"valkey": ValkeyOnLibc(), "redis": RedisOnJemalloc()}


def strings_cost(layout: StoreLayout, keys: ArrayLike, values: ArrayLike, count: int, held: int) -> float:
    """Return the cost of `count` keys with times to live, given lengths of a sample of them.

    Parameters
    ----------
    keys, values
        Lengths of a sample.
    count
        How many there are.
    held
        How many keys the store holds in all: they share two tables, of keys and of times to live.
    """
    if not count:
        return 0.0
    return float(count * layout.string(keys, values).mean() + 2 * layout.table(held) * count / held)


def hash_cost(layout: StoreLayout, names: ArrayLike, values: ArrayLike, count: int) -> float:
    """Return the cost of a hash of `count` fields, given lengths of a sample of them."""
    if not count:
        return 0.0
    if count <= LISTPACK_FIELDS and int(np.max(values)) <= LISTPACK_VALUE:
        entries = np.mean(np.asarray(names) + np.asarray(values)) + 4
        return float(layout.block(7 + count * entries)) + _OBJECT
    fields = float(count * layout.field(names, values).mean())
    return fields + layout.table(count) + layout.moving(count)


def entries_cost(layout: StoreLayout, values: ArrayLike, count: int) -> float:
    """Return the cost of `count` stream entries of one large field, packed into nodes of about 4 KiB."""
    if not count:
        return 0.0
    length = float(np.mean(np.asarray(values, np.float64)))
    node = max(1.0, min(100.0, 4096 // (length + 20)))
    return count / node * (float(layout.block(node * (length + 12) + 40)) + float(layout.block(48)))


def _text(length: ArrayLike) -> IntArray:
    """Return the bytes of a name: a header by its length, the text, a zero."""
    size = np.asarray(length, np.int64)
    return np.where(size < 32, size + 2, _value(size))


def _value(length: ArrayLike) -> IntArray:
    size = np.asarray(length, np.int64)
    return size + 1 + np.where(size < 256, 3, np.where(size < 65_536, 5, 9))


def _power_of_two(at_least: float) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1.0, at_least))))


def _poisson_at_least(mean: float, size: int) -> float:
    return 1.0 - sum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(size))
