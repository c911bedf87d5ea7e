"""Pseudonyms: the same for the same id, useless without the key."""

import re

from hypothesis import given
from hypothesis import strategies as st

from state.pseudonyms import Pseudonyms

KEY = b"a key kept elsewhere"


def test_a_pseudonym_is_what_the_documentation_says() -> None:
    assert Pseudonyms(KEY).of("anna") == "p:bcc80787e1198289d2192341bfe78f2f"


@given(st.text(min_size=1, max_size=128).filter(lambda text: not text.startswith("s:")))
def test_an_id_becomes_one_pseudonym_and_stays_it(user_id: str) -> None:
    names = Pseudonyms(KEY)
    found = names.of(user_id)
    assert re.fullmatch("p:[0-9a-f]{32}", found)
    assert names.of(found) == found
    assert Pseudonyms(b"another key, as long").of(user_id) != found or found == user_id


@given(st.text(max_size=200))
def test_without_a_key_ids_stay(user_id: str) -> None:
    assert Pseudonyms(b"").of(user_id) == user_id


def test_sessions_stay_and_what_can_be_no_id_is_left_to_be_refused() -> None:
    names = Pseudonyms(KEY)
    assert [names.of(said) for said in ("s:visit", "", "x" * 129)] == ["s:visit", "", "x" * 129]
