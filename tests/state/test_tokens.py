"""Decision ids say when and where; tokens open only for their own subject, untouched and in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.tokens import TokenSigner, decision_time, make_decision_id

SIGNER = TokenSigner(b"a secret of our own")
NOW = 1_750_000_000_000
TIMES = st.integers(946_684_800_000, 4_102_444_800_000)
IDS = st.builds(make_decision_id, TIMES, st.integers(0, 65_535), st.integers(0, 2**64))


@given(TIMES, st.integers(0, 65_535), st.integers(0, 2**64))
def test_a_decision_id_tells_its_time_and_shard(at_ms: int, shard: int, bits: int) -> None:
    decision_id = make_decision_id(at_ms, shard, bits)
    assert decision_time(decision_id) == at_ms
    assert int(decision_id.split("-")[1], 16) == shard


@pytest.mark.parametrize("text", ["", "abc", "0197f5c5a00-0001", "0197F5C5A00-0001-0123456789ab", "x" * 40])
def test_what_is_no_decision_id_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="wished: TIME-SHARD-RANDOM"):
        decision_time(text)


@given(IDS, st.text(min_size=1, max_size=130), st.integers(0, 10**9))
def test_a_token_opens_for_its_subject_until_it_expires(decision_id: str, subject: str, life: int) -> None:
    token = SIGNER.sign(decision_id, subject, NOW + life)
    assert SIGNER.open(token, subject, NOW) == decision_id
    assert SIGNER.open(token, subject, NOW + life) == decision_id
    assert SIGNER.open(token, subject, NOW + life + 1) is None


@given(IDS, st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_a_token_opens_for_nobody_else(decision_id: str, subject: str, other: str) -> None:
    token = SIGNER.sign(decision_id, subject, NOW)
    assert (SIGNER.open(token, other, NOW) == decision_id) == (other == subject)


@given(IDS, st.data())
def test_a_token_with_any_character_changed_is_forged(decision_id: str, data: st.DataObject) -> None:
    token = SIGNER.sign(decision_id, "u1", NOW)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(exclude_characters=token[place], codec="utf-8"))
    assert SIGNER.open(token[:place] + letter + token[place + 1 :], "u1", NOW) is None


@given(st.text(max_size=200))
def test_any_text_is_opened_without_an_error(token: str) -> None:
    assert SIGNER.open(token, "u1", NOW) is None


@given(IDS)
def test_a_token_of_another_namespace_is_foreign(decision_id: str) -> None:
    token = TokenSigner(b"another secret of theirs").sign(decision_id, "u1", NOW)
    assert SIGNER.open(token, "u1", NOW) is None


def test_a_longer_life_cannot_be_written_into_a_token() -> None:
    decision_id, expiry, mac = SIGNER.sign(make_decision_id(NOW, 1, 1), "u1", NOW).split(".")
    assert SIGNER.open(f"{decision_id}.{int(expiry, 16) + 10**9:x}.{mac}", "u1", NOW + 10**6) is None


def test_decision_and_subject_cannot_be_shifted_against_each_other() -> None:
    decision_id = make_decision_id(NOW, 1, 1)
    mac = SIGNER.sign(decision_id, f"{NOW:x}|u1", NOW).split(".")[2]
    assert SIGNER.open(f"{decision_id}.{NOW:x}.{mac}", "u1", NOW) is None


def test_a_short_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="has 5 bytes") as error:
        TokenSigner(b"hush!")
    assert "hush" not in str(error.value)
