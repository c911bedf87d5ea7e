"""API keys: what is kept of them, and what is taken for one."""

import base64
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.api_keys import LENGTH, digest, id_of, is_same, new_key, read_keys, revoke, write_keys
from state.settings import SettingsError

AT = 1_750_000_000_000


def test_a_key_is_known_by_its_hash_and_stands_nowhere_in_the_file(tmp_path: Path) -> None:
    key, kept = new_key("shop", ["read", "events"], AT)
    write_keys(tmp_path / "keys", [kept])
    secret = key.rsplit("_", 1)[1] if "_" not in key[17:] else key[17:]
    text = (tmp_path / "keys").read_text()
    assert secret not in text
    assert base64.b64encode(key.encode()).decode() not in text
    (held,) = read_keys(tmp_path / "keys")
    assert held == kept
    assert id_of(key.encode()) == held.id.encode()
    assert is_same(bytes.fromhex(held.hash), key.encode())
    assert len(key) == LENGTH


@given(at=st.integers(0, LENGTH - 1), other=st.integers(32, 126))
def test_a_key_with_one_other_character_is_another(at: int, other: int) -> None:
    key, kept = new_key("shop", ["read"], AT)
    forged = bytearray(key.encode())
    forged[at] = other
    assert is_same(bytes.fromhex(kept.hash), bytes(forged)) == (bytes(forged) == key.encode())


@given(st.one_of(st.binary(max_size=80), st.binary(min_size=LENGTH, max_size=LENGTH)))
def test_whatever_is_shown_as_a_key_is_an_id_or_nothing(shown: bytes) -> None:
    found = id_of(shown)
    assert found is None or (shown.startswith(b"hwk_") and len(shown) == LENGTH and found == shown[4:16])
    assert len(digest(shown)) == 32


def test_only_the_owner_can_read_a_new_file_and_a_changed_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    write_keys(path, [])
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    write_keys(path, [new_key("shop", ["read"], AT)[1]])
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_keys_end_at_their_time_and_by_name_or_id() -> None:
    (_, one), (_, two), (_, three) = (new_key(name, ["read"], AT) for name in ("shop", "shop", "app"))
    limited = msgspec.structs.replace(three, expires_at=AT + 10)
    assert [limited.is_usable(AT + 9), limited.is_usable(AT + 10)] == [True, False]
    left, ended = revoke([one, two, three], "shop", AT + 5)
    assert [key.is_usable(AT + 5) for key in left] == [False, False, True]
    assert [key.id for key in ended] == [one.id, two.id]
    left, ended = revoke(left, three.id, AT + 6)
    assert [key.is_usable(AT + 6) for key in left] == [False, False, False]
    assert revoke(left, "shop", AT + 7)[1] == []


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read"], {"read"}),
        (["tune"], {"tune", "observe"}),
        (["admin"], {"read", "events", "catalogue", "observe", "tune", "admin"}),
    ],
)
def test_scopes_imply_what_they_need(scopes: list[str], allowed: set[str]) -> None:
    assert new_key("shop", scopes, AT)[1].allowed() == allowed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2, "keys": []}', '{"version": 1}', '{"version":1,"keys":[{"id":"x"}]}']
)
def test_what_is_no_file_of_keys_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(SettingsError, match=r"HEADWATER_KEYS_FILE has value .*keys'; wished: a file of keys"):
        read_keys(tmp_path / "keys")


def test_a_missing_file_and_an_id_that_comes_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="wished: a readable file"):
        read_keys(tmp_path / "none")
    kept = new_key("shop", ["read"], AT)[1]
    write_keys(tmp_path / "keys", [kept, kept])
    with pytest.raises(SettingsError, match="each id once"):
        read_keys(tmp_path / "keys")
