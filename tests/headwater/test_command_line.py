"""The command line refuses what it cannot do before anything starts, and says why in one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.explore import describe
from state.exploration import Explorations


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(words), env={f"HEADWATER_{k}": v for k, v in environment.items()})


@pytest.mark.parametrize("command", ["worker", "serve"])
def test_nothing_starts_without_a_secret(command: str) -> None:
    result = run(command)
    assert result.exit_code == 1
    assert "HEADWATER_TOKEN_SECRET has 0 characters; wished: at least 16" in result.output


@pytest.mark.parametrize(
    "words", [("worker",), ("serve",), ("topics", "check"), ("explore",), ("deadletters", "list")]
)
def test_a_bad_setting_is_told_in_one_line(words: tuple[str, ...]) -> None:
    result = run(*words, SHARDS="none")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "HEADWATER_SHARDS has value 'none'" in result.output


@pytest.mark.parametrize(
    "words", [("--rate", "0.6"), ("--scheme", "magic"), ("--temperature", "0")], ids=lambda words: words[0]
)
def test_an_exploration_out_of_bounds_is_refused(words: tuple[str, str]) -> None:
    assert run("explore", *words).exit_code == 2


def test_schemas_are_written_and_checked(tmp_path: Path) -> None:
    assert run("schema", "--check", "--into", str(tmp_path)).exit_code == 1
    assert run("schema", "--into", str(tmp_path)).exit_code == 0
    assert run("schema", "--check", "--into", str(tmp_path)).exit_code == 0


def test_a_document_is_described_in_one_line() -> None:
    document = Explorations(rate=0.1, scheme="softmax", version=3, changed_by="me", why="launch")
    assert describe("exploration/home", document) == (
        "home: version 3, softmax, rate 0.1, temperature 0.05, "
        "new items 10 impressions in 72 h, by me: launch"
    )
