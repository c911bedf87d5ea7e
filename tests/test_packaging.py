"""Our top-level names are ours alone: a foreign `stream` or `state` would silently replace half of us."""

import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMES = ["bandits", "headwater", "online_models", "serving", "state", "stream"]


@pytest.mark.parametrize("name", NAMES)
def test_no_other_distribution_claims_one_of_our_names(name: str) -> None:
    assert set(packages_distributions().get(name, [])) == {"headwater"}


def test_every_room_with_code_is_packaged_and_nothing_else() -> None:
    wanted = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(name for name in wanted if "." not in name) == NAMES
    assert not (ROOT / "docker" / "__init__.py").exists(), "it would shadow the Docker SDK"


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    assert version("headwater") == PROJECT["project"]["version"]


def test_the_distribution_cannot_be_uploaded() -> None:
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_files_that_are_read_at_run_time_are_packaged() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    rooms = [path for name in NAMES for path in (ROOT / name).rglob("*") if path.is_file()]
    others = {path.suffix for path in rooms if path.suffix not in {".py", ".pyc", ".nbi", ".nbc"}}
    assert {f"*{suffix}" for suffix in others if suffix} <= set(patterns) | {"*.typed"}
