"""Freshness tokens: what they name, and when a shard has folded it."""

from contextlib import nullcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.after import FOLLOWED, After, place_token, read_after
from serving.requests import RecommendationRequest


def test_a_place_of_kafka_is_a_token() -> None:
    assert read_after("hw.clicks/3/1234", "hw") == After(places=(("clicks", 3, 1234),))


def test_several_places_are_one_token() -> None:
    read = read_after("hw.clicks/3/7,hw.feedback/3/0", "hw")
    assert read.places == (("clicks", 3, 7), ("feedback", 3, 0))
    assert read.kinds() == ["clicks", "feedback"]


@pytest.mark.parametrize(
    "token",
    ["e1", "a,b", "other.clicks/3/7", "hw.clicks/3", "hw.clicks/3/x", "hw.decisions/3/7", "hw.clicks/3/7,e1"],
)
def test_whatever_is_no_place_is_an_event_id(token: str) -> None:
    assert read_after(token, "hw") == After(event_id=token)


@pytest.mark.parametrize(
    ("token", "fits"),
    [
        ("x" * 128, True),
        ("x" * 129, False),
        (",".join(f"hw.{kind}/3/{10**18}" for kind in FOLLOWED * 2), True),
        ("hw.clicks/3/7," * 10 + "e1", False),
        ("", False),
    ],
)
def test_a_request_takes_an_event_id_or_places_and_nothing_longer(token: str, *, fits: bool) -> None:
    given = {"session_id": "s", "after": token}
    with nullcontext() if fits else pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, RecommendationRequest)


def test_a_place_is_reached_once_the_shard_reads_on_behind_it() -> None:
    after = After(places=(("clicks", 3, 7), ("feedback", 3, 0)))
    assert not after.is_reached({})
    assert not after.is_reached({"clicks": 7, "feedback": 1})
    assert not after.is_reached({"clicks": 8})
    assert after.is_reached({"clicks": 8, "feedback": 1})


def test_a_place_in_another_shards_partition_belongs_to_nobody_else() -> None:
    after = After(places=(("clicks", 3, 7), ("feedback", 2, 7)))
    assert not after.belongs_to(3)
    assert not after.belongs_to(2)
    assert After(places=(("clicks", 3, 7),)).belongs_to(3)


@given(
    st.lists(
        st.tuples(st.sampled_from(FOLLOWED), st.integers(0, 4095), st.integers(0, 2**60)),
        min_size=1,
        max_size=4,
    )
)
def test_what_the_gateway_says_is_understood(places: list[tuple[str, int, int]]) -> None:
    token = ",".join(place_token(f"shop.{kind}", partition, offset) for kind, partition, offset in places)
    assert read_after(token, "shop") == After(places=tuple(places))
