"""Settings: a bad one is refused at start and named, a good one survives its way to a child process."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.clients import kafka_security
from state.settings import DEFAULT_FEEDBACK, SECRETS, FeedbackKind, Settings, SettingsError, load_settings

SECRET = "correct horse battery"


def test_an_empty_environment_gives_the_defaults() -> None:
    assert load_settings({}) == Settings()
    assert load_settings({"PATH": "/bin", "HEADWATER_TEST_KAFKA": "x:1"}) == Settings()
    assert Settings().feedback == DEFAULT_FEEDBACK


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"HEADWATER_SHARD is unknown; wished: one of .*shards"):
        load_settings({"HEADWATER_SHARD": "4"})


@pytest.mark.parametrize(
    ("name", "text", "wished"),
    [
        ("SHARDS", "0", ">= 1"),
        ("SHARDS", "4.5", "int"),
        ("SHARDS", "4097", "<= 4096"),
        ("LANES", "many", "int"),
        ("HOLDOUT", "1.5", "<= 1.0"),
        ("HOLDOUT", "nan", ">= 0.0"),
        ("LATENESS_S", "0", "> 0.0"),
        ("LATENESS_S", "inf", "<= 1"),
        ("SPEED_UP", "0.5", ">= 1.0"),
        ("SPEED_UP", "inf", "<= 1"),
        ("NAMESPACE", "My Shop", "regex"),
        ("KAFKA", "nohost", "regex"),
        ("REDIS", "http://h", "regex"),
        ("REDIS", "redis+cluster://h", "regex"),
        ("REDIS", "redis+cluster://h:7000/3", "regex"),
        ("REDIS", "redis+cluster://h:7000,", "regex"),
        ("REDIS", "unix+cluster:///tmp/s", "regex"),
        ("LOG_LEVEL", "chatty", "regex"),
        ("SEED", "x", "int"),
        ("PORT", "65536", "<= 65535"),
        ("KNN", "{", "truncated"),
        ("HALF_LIVES_S", "[]", "length >= 1"),
        ("HALF_LIVES_S", "[3600, -1]", "> 0.0"),
        ("FEEDBACK", '{"like":{"reward":2}}', "<= 1.0"),
        ("FEEDBACK", '{"like":{"rewrd":1}}', "unknown field `rewrd`"),
    ],
)
def test_a_bad_setting_is_refused_with_its_name_value_and_wish(name: str, text: str, wished: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({f"HEADWATER_{name}": text})
    message = str(error.value)
    assert f"HEADWATER_{name} has value {text!r}" in message
    assert wished in message.split("wished: ")[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [("REDIS", "http://me:hunter2@host"), ("REDIS", "redis:/x//me:hunter2@host"), ("KAFKA", "//u:hunter2@h")],
)
def test_a_password_inside_an_address_is_never_shown(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({f"HEADWATER_{name}": text})
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_short_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="TOKEN_SECRET has 7 characters; wished: at least 16") as error:
        load_settings({"HEADWATER_TOKEN_SECRET": "hunter2"}).secret()
    assert "hunter2" not in str(error.value)
    with pytest.raises(SettingsError, match="TOKEN_SECRET has 0 characters"):
        Settings().secret()
    assert Settings(token_secret=SECRET).secret() == SECRET.encode()


def test_the_erasure_secret_is_the_token_secret_unless_it_has_its_own() -> None:
    assert Settings(token_secret=SECRET).erasure_key() == SECRET.encode()
    own = "kept for as long as the list"
    assert Settings(token_secret=SECRET, erasure_secret=own).erasure_key() == own.encode()
    with pytest.raises(SettingsError, match="ERASURE_SECRET has 7 characters; wished: at least 16") as error:
        load_settings({"HEADWATER_TOKEN_SECRET": SECRET, "HEADWATER_ERASURE_SECRET": "hunter2"}).erasure_key()
    assert "hunter2" not in str(error.value)


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "namespace": st.from_regex(re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}"), fullmatch=True),
        "shards": st.integers(1, 4096),
        "token_secret": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
        "holdout": st.floats(0, 1),
        "speed_up": st.floats(1, 1000),
        "attribution_window_s": st.floats(0.001, 1e6),
        "half_lives_s": st.lists(st.floats(0.001, 1e8), min_size=1, max_size=6).map(tuple),
        "knn": st.dictionaries(st.text(max_size=8), st.floats(-100, 100), max_size=3),
        "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
        "kafka_sasl_username": st.none() | st.just("me"),
        "feedback": st.dictionaries(
            st.text(max_size=8),
            st.builds(
                FeedbackKind,
                reward=st.floats(0, 1),
                sign=st.integers(-1, 1),
                interest=st.floats(0, 1),
                value_scale=st.none() | st.floats(0.01, 100),
            ),
            max_size=3,
        ),
    },
)


@given(SETTINGS)
def test_a_child_process_gets_the_very_same_settings(given_: dict[str, Any]) -> None:
    settings = Settings(**given_)
    assert load_settings(settings.environment()) == settings


@pytest.mark.parametrize(
    ("speed_up", "window", "lateness", "wait"),
    [
        (1.0, 600_000, 30_000, 600_000),
        (2.0, 300_000, 15_000, 300_000),
        (60.0, 10_000, 500, 10_000),
        (1000.0, 2_000, 500, 2_000),
    ],
)
def test_a_speed_up_divides_times_down_to_their_floors(
    speed_up: float, window: int, lateness: int, wait: int
) -> None:
    settings = Settings(speed_up=speed_up)
    assert (settings.window_ms, settings.lateness_ms, settings.decision_wait_ms) == (window, lateness, wait)


@given(st.floats(1.0, 1e6), st.floats(0.001, 1e7), st.floats(0.001, 1e7))
def test_no_speed_up_goes_below_the_floors(speed_up: float, window_s: float, lateness_s: float) -> None:
    settings = Settings(speed_up=speed_up, attribution_window_s=window_s, lateness_s=lateness_s)
    if speed_up > 1:
        assert settings.window_ms >= 2000
        assert settings.lateness_ms >= 500
    assert settings.trend_half_lives_s == tuple(s / speed_up for s in settings.half_lives_s)


def test_without_a_speed_up_short_times_are_taken_as_given() -> None:
    settings = Settings(attribution_window_s=0.5, lateness_s=0.1, max_skew_s=1.5)
    assert (settings.window_ms, settings.lateness_ms, settings.max_skew_ms) == (500, 100, 1500)


def test_a_plain_broker_needs_no_security_options() -> None:
    assert kafka_security(Settings()) == {}


def test_every_security_option_of_the_broker_is_a_setting() -> None:
    options = kafka_security(
        Settings(
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username="me",
            kafka_sasl_password="pw",
        )
    )
    assert options.pop("ssl_context").check_hostname
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": "pw",
    }


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sixteen characters\n")
    settings = load_settings({"HEADWATER_TOKEN_SECRET_FILE": str(tmp_path / "secret")})
    assert settings.secret() == b"sixteen characters"
    (tmp_path / "url").write_text("redis://:word@store:6379/0\n")
    assert (
        load_settings({"HEADWATER_REDIS_FILE": str(tmp_path / "url")}).redis == "redis://:word@store:6379/0"
    )


@pytest.mark.parametrize(
    ("given", "wished"),
    [
        ({"HEADWATER_TOKEN_SECRET_FILE": "/nowhere/at/all"}, "wished: a readable file"),
        ({"HEADWATER_TOKEN_SECRET_FILE": "/dev/null", "HEADWATER_TOKEN_SECRET": "x"}, "wished: one of them"),
        ({"HEADWATER_SHARDS_FILE": "/dev/null"}, "is unknown"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(given: dict[str, str], wished: str) -> None:
    with pytest.raises(SettingsError, match=wished):
        load_settings(given)


def test_no_secret_is_printed_with_the_settings() -> None:
    secrets = {name: f"very secret {name}" for name in SECRETS}
    settings = Settings(redis="redis://:very-secret@store:6379/0", **secrets)  # type: ignore[arg-type]
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "secret" not in shown


def test_a_short_pseudonym_secret_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match="PSEUDONYM_SECRET has 5 characters"):
        Settings(pseudonym_secret="short").pseudonym_key()
    assert Settings().pseudonym_key() == b""
