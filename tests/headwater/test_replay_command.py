"""The replay command says where a replay ends, and refuses what it cannot understand at once."""

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.replay import read_until

SECRET = {"HEADWATER_TOKEN_SECRET": "a secret of the tests"}


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(words), env=SECRET | environment)


@pytest.mark.parametrize(
    ("text", "wished"),
    [
        ("latest", (None, None, {})),
        ("120", (None, 120, {})),
        ("1767225600000", (1767225600000, None, {})),
        ("2026-01-01T00:00:00Z", (1767225600000, None, {})),
        ("2026-01-01", (1767225600000, None, {})),
        ("2026-01-01T01:00:00+01:00", (1767225600000, None, {})),
        ("0:12,m0:7,c:1", (None, None, {"0": 12, "m0": 7, "c": 1})),
    ],
)
def test_an_end_is_a_time_a_commit_or_commits_by_unit(text: str, wished: object) -> None:
    assert read_until(text) == wished


@pytest.mark.parametrize("text", ["", "later", "0:", "0:x", "x:1", "-5", "2026-13-01"])
def test_an_end_that_is_none_is_told_in_one_line(text: str) -> None:
    result = run("replay", "--into", "other", f"--to={text}")
    assert result.exit_code == 2
    assert f"{text!r}; wished: latest, a time" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "--into", "No Name"), ("snapshot", "create", "--namespace", "No Name", "file"),
        ("state-hash", "--namespace", "No Name"), ("state-hash", "--diff", "No Name"),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_a_namespace_is_told(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "namespace is 'No Name'; wished: " in result.output


def test_a_replay_into_itself_is_refused() -> None:
    result = run("replay", "--into", "hw")
    assert (result.exit_code, "the namespace that is replayed" in result.output) == (1, True)


def test_a_replay_needs_the_secret_of_the_namespace() -> None:
    result = CliRunner().invoke(main, ["replay", "--into", "other"])
    assert (result.exit_code, "TOKEN_SECRET has 0 characters" in result.output) == (1, True)


def test_a_store_that_does_not_answer_is_told_in_one_line() -> None:
    result = run("state-hash", HEADWATER_REDIS="redis://127.0.0.1:1/0")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_a_snapshot_that_is_not_there_is_told(tmp_path: object) -> None:
    result = run("replay", "--into", "other", "--from", f"{tmp_path}/none")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "No such file" in result.output
