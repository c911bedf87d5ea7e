"""Machine code kept on disk outlives an upgrade of the files it was made from."""

import os
import subprocess
import sys
from pathlib import Path

_LOOP = """
from typing import NamedTuple
from online_models.compiled import compiled

class {name}(NamedTuple):
    value: float

@compiled
def doubled(given):
    return 2.0 * given.value

assert doubled({name}(2.0)) == 4.0
print(sum(doubled.stats.cache_hits.values()))
"""


def run(folder: Path, name: str) -> str:
    """Run a loop over a type of this name in a process of its own; returns how often code was found kept."""
    (folder / "loop.py").write_text(_LOOP.format(name=name))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kept"), "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", "import loop"],
        env={**environment, "PYTHONPATH": f"{folder}:{environment['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_kept_code_is_used_again_and_made_anew_where_its_types_are_gone(tmp_path: Path) -> None:
    assert run(tmp_path, "Before") == "0"
    assert run(tmp_path, "Before") == "1"
    assert run(tmp_path, "After") == "0"
    assert run(tmp_path, "After") == "1"
