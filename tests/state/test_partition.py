"""A subject's shard is the partition that Kafka's own partitioner would choose."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from state.partition import murmur2, shard_of


@pytest.mark.parametrize(
    ("data", "java"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_what_the_java_client_gives(data: bytes, java: int) -> None:
    assert murmur2(data) == java & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_murmur2_is_the_hash_of_the_python_client(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data) & 0xFFFFFFFF


@given(st.text(min_size=1, max_size=60), st.integers(1, 4096))
def test_a_subjects_shard_is_the_partition_a_producer_sends_its_key_to(subject: str, shards: int) -> None:
    partitions = list(range(shards))
    assert shard_of(subject, shards) == DefaultPartitioner()(subject.encode(), partitions, partitions)


@given(st.text(max_size=60), st.integers(1, 4096))
def test_a_shard_is_a_number_below_the_count(subject: str, shards: int) -> None:
    assert 0 <= shard_of(subject, shards) < shards
