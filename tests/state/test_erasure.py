"""The erasure list and receipts: who was erased is found, and told of nobody else; no byte can be changed."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.access import readable
from state.decoding import Refusal
from state.erasing import erase_event, stored_subject
from state.erasure import ErasureKeys, ErasureList, Erasures, subjects_named
from state.events import DeadLetter
from state.partition import shard_of
from state.receipts import Erasure, Receipt, ReceiptError, Removed, decode_receipt, signed, verifies
from state.retention import SESSIONS_CAP
from state.settings import Settings
from state.subject import SEAL_BYTES, SubjectRecord

KEYS = ErasureKeys(b"a secret of the tests")
AT = 1_750_000_000_000
RECEIPT = signed(
    Receipt(
        namespace="hw",
        subject=KEYS.subject("u1"),
        receipt_id=KEYS.receipt_id("e1"),
        erased_at=AT,
        why="asked",
        removed=Removed(1, 2, 3, 4, 5),
        rebuild_by=AT + 1,
        rebuilt_at=None,
        kafka_ends_at=AT + 2,
    ),
    KEYS,
)
RAW = msgspec.json.encode(RECEIPT)


def entry(erased_at: int = AT, commit: int = 7) -> bytes:
    return msgspec.json.encode(
        Erasure(
            receipt_id="r",
            erased_at=erased_at,
            removed=Removed(),
            rebuild_by=0,
            kafka_ends_at=0,
            commit=commit,
        )
    )


def lists(subject: str, shards: int = 3) -> Erasures:
    stored = {KEYS.subject(subject).encode(): entry()}
    owner = shard_of(subject, shards)
    return Erasures([ErasureList(KEYS, stored if n == owner else {}) for n in range(shards)])


def test_a_receipt_verifies_as_it_was_signed_and_with_its_own_secret_only() -> None:
    assert verifies(decode_receipt(RAW), KEYS)
    assert not verifies(decode_receipt(RAW), ErasureKeys(b"another secret of tests"))
    assert "u1" not in RAW.decode().replace(RECEIPT.subject, "")


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_a_receipt_with_any_byte_changed_does_not_verify(place: int, change: int) -> None:
    changed = RAW[:place] + bytes([RAW[place] ^ change]) + RAW[place + 1 :]
    try:
        receipt = decode_receipt(changed)
    except ReceiptError:
        return
    assert not verifies(receipt, KEYS)


@given(st.binary(max_size=60))
def test_what_is_no_receipt_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(ReceiptError, match="no receipt"):
        decode_receipt(raw)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_keyed_hash_tells_subjects_apart_and_is_never_the_signature_or_proof(one: str, other: str) -> None:
    assert (KEYS.subject(one) == KEYS.subject(other)) == (one == other)
    assert KEYS.subject(one) != KEYS.receipt_id(one)
    assert len(KEYS.subject(one)) == 32


def test_a_replay_skips_what_was_erased_and_not_what_came_after() -> None:
    erasures = lists("u1")
    shard = shard_of("u1", 3)
    assert [erasures.skips(shard, commit, "u1") for commit in (1, 7, 8)] == [True, True, False]
    assert not erasures.skips(shard, 1, "u2")
    assert not erasures.skips((shard + 1) % 3, 1, "u1")


@given(st.integers(AT - 5, AT + 5))
def test_an_event_is_void_up_to_the_erasure_and_no_longer(at: int) -> None:
    assert lists("u1").voids("u1", at) == (at <= AT)
    assert not lists("u1").voids("u2", at)


def letter(raw: bytes, key: bytes | None, at: int = AT, topic: str = "clicks") -> DeadLetter:
    packed = None if key is None else base64.b64encode(key).decode()
    return DeadLetter(
        event_id="0-clicks-0-1",
        occurred_at=at,
        reason="wrong_type",
        detail="",
        topic=topic,
        partition=0,
        offset=1,
        raw=base64.b64encode(raw).decode(),
        key=packed,
    )


@pytest.mark.parametrize(
    ("found", "hidden"),
    [
        (letter(b"broken", b"u1"), True),
        (letter(b'{"user_id":"u1","session_id":"x"}', None), True),
        (letter(b'{"user_id":"u1"}', b"another key"), True),
        (letter(b'{"user_id":"u2","session_id":"u1"}', b"u2"), False),
        (letter(b'{"user_id":7,"session_id":["u1"]}', None), False),
        (letter(b"broken", b"u1", AT + 1), False),
        (letter(b"broken", b"u1", topic="items"), False),
        (letter(b"\xff\xfe", b"\xff"), False),
    ],
)
def test_a_dead_letter_is_hidden_if_it_is_about_the_erased(found: DeadLetter, *, hidden: bool) -> None:
    assert lists("u1").hides(found) == hidden


def test_a_dead_letter_of_an_erased_session_is_hidden() -> None:
    assert lists("s:v1").hides(letter(b'{"session_id":"v1","item_id":7}', None))
    assert not lists("s:v1").hides(letter(b'{"session_id":"v1","user_id":"u1"}', None))


def test_a_record_of_records_is_about_whom_the_inner_one_is_about() -> None:
    inner = msgspec.json.encode(letter(b'{"user_id":"u1"}', b"u9"))
    assert subjects_named(None, inner) == {"u1", "u9"}
    assert subjects_named(b"home#0", b'{"subject":"u1"}') == {"home#0", "u1"}
    assert subjects_named(None, None) == set()


@given(st.binary(max_size=80), st.none() | st.binary(max_size=8))
def test_nothing_a_record_holds_stops_its_reader(raw: bytes, key: bytes | None) -> None:
    letter_of = msgspec.json.encode({"raw": raw.decode("latin-1"), "reason": 1, "key": 7})
    for value in (raw, letter_of):
        named = subjects_named(key, value)
        assert all(isinstance(one, str) for one in named)


@pytest.mark.parametrize("subject", ["", "s:", "x" * 129, "s:" + "x" * 129])
def test_an_id_nobody_can_have_is_refused(subject: str) -> None:
    with pytest.raises(Refusal, match="field 'user_id' has value"):
        stored_subject(Settings(), subject)
    assert [stored_subject(Settings(), good) for good in ("u", "s:x", "x" * 128)] == ["u", "s:x", "x" * 128]


def test_a_reason_too_long_to_be_kept_is_refused_before_it_is_sent() -> None:
    settings = Settings(token_secret="a secret of the tests")
    with pytest.raises(Refusal, match="field 'why'"):
        erase_event(settings, "u1", "x" * 513)
    event = erase_event(settings, "s:v", "x" * 512)
    assert KEYS.proves(event)
    assert not KEYS.proves(msgspec.structs.replace(event, user_id="s:w"))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2 * SESSIONS_CAP))
def test_a_record_lists_its_latest_sessions_and_says_which_leave(sessions: list[int]) -> None:
    record, left = SubjectRecord(), list[int]()
    for session in sessions:
        left += record.add_session(session)
    assert len(record.session_hashes()) == min(SESSIONS_CAP, len(record.session_hashes()))
    assert set(left) | set(record.session_hashes()) == set(sessions)
    if sessions:
        assert sessions[-1] in record.session_hashes()


def test_a_readable_record_names_its_items_and_packs_nothing() -> None:
    record = SubjectRecord(session_id="s1", bandit=b"\0" * (SEAL_BYTES + 8))
    record.mark_seen("i1", AT, 10)
    record.count("i2", AT, 3)
    record.mark_applied("e1", AT)
    record.add_session(-5)
    plain = readable(record, {})
    assert msgspec.json.decode(msgspec.json.encode(plain)) == plain
    assert [one["at_ms"] for one in plain["applied"]] == [AT]
    assert (plain["bandit"], plain["sessions"], len(plain["counted"])) == ([0.0], ["-5"], 1)
    assert not [name for name, value in plain.items() if isinstance(value, bytes)]
