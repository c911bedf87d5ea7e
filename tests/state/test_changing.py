"""Wished changes of control documents: refused where the engine would refuse them."""

import pytest

from state.changing import Wish, change_event, check_kept
from state.decoding import Refusal
from state.exploration import DEEPEST, Explorations
from state.ranking import Rankings

AT = 1_750_000_000_000


def test_a_version_that_is_not_kept_cannot_come_back_and_the_defaults_always_can() -> None:
    kept = [Rankings(version=number) for number in (7, 6, 5)]
    for known in (None, 0, 5, 7):
        check_kept("ranking/home", Wish(restores=known), kept)
    for unknown in (4, 8, 2**40):
        with pytest.raises(Refusal, match=r"unknown_version.*5 to 7"):
            check_kept("ranking/home", Wish(restores=unknown), kept)
    with pytest.raises(Refusal, match="0, the defaults"):
        check_kept("ranking/home", Wish(restores=1), [])


def test_one_temporary_change_more_than_may_lie_on_each_other_is_refused_before_it_is_published() -> None:
    document = Explorations(version=1)
    for _ in range(DEEPEST):
        document = Explorations(version=document.version + 1, until=AT + 10_000, before=document)
    wish = Wish(given={"ttl_s": 5.0, "rate": 0.01})
    with pytest.raises(Refusal, match="too_deep"):
        change_event("exploration/home", document, wish, AT, 0)
    assert document.before is not None
    assert change_event("exploration/home", document.before, wish, AT, 0).name == "exploration/home"


def test_a_change_with_an_id_of_its_own_keeps_it() -> None:
    event = change_event("ranking/home", Rankings(), Wish(given={"diversity": 1.0}, event_id="mine"), AT, 0)
    assert event.event_id == "mine"
    other = change_event("ranking/home", Rankings(), Wish(given={"diversity": 1.0}), AT, 0)
    assert other.event_id not in ("", "mine")
