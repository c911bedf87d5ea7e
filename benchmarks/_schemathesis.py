"""Schemathesis against a running server: all checks over its own OpenAPI document."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct

# What a schema cannot say: that a forced change needs a reason, that fields contradict each other, that a
# change names nothing, that a filter has a grammar. There 400 is the right answer to what the schema allows.
_WORDED = (
    ("PUT", "/v1/exploration/{surface}"),
    ("PUT", "/v1/exploration/{surface}/shadows"),
    ("POST", "/v1/exploration/{surface}/promote"),
    ("PUT", "/v1/ranking/{surface}"),
    ("PUT", "/v1/rules/{surface}"),
    ("POST", "/v1/recommendations"),
    ("GET", "/v1/recommendations"),
    ("GET", "/v1/similar/{item_id}"),
    ("POST", "/v1/similar/{item_id}"),
)
# The framework takes 0 for false and "3" for 3.
_LENIENT = ("/v1/exploration/{surface}",)
_CASES = re.compile(r"(\d+) generated")
_TESTED = re.compile(r"Tested: (\d+)")


class Run(Struct):
    """What a run found: operations, cases, failures by kind, and what was printed."""

    operations: int
    cases: int
    failures: dict[str, int]
    exit_code: int
    printed: str


def configuration() -> str:
    """Return the configuration: what operations may answer to what the schema allows, or forbids."""
    parts = []
    for method, path in _WORDED:
        statuses = '["2xx", "3xx", 400, 401, 403, 404, 409, 412, 429, "5xx"]'
        parts.append(
            f'[[operations]]\ninclude-method = "{method}"\ninclude-path = "{path}"\n'
            f"checks.positive_data_acceptance.expected-statuses = {statuses}\n"
        )
    for path in _LENIENT:
        statuses = "[200, 400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 428, 429, 503]"
        parts.append(
            f'[[operations]]\ninclude-method = "PUT"\ninclude-path = "{path}"\n'
            f"checks.negative_data_rejection.expected-statuses = {statuses}\n"
        )
    return "\n".join(parts)


def run_schemathesis(api: str, *, examples: int, seconds: float, seed: int, api_key: str = "") -> Run:
    """Try everything a server documents, with data that fits and data that does not."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "schemathesis.toml"
        config.write_text(configuration())
        command: list[str] = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run",
            f"{api}/openapi.json", "--checks", "all", "--phases", "examples,coverage,fuzzing",
            "--max-examples", str(examples), "--seed", str(seed), "--continue-on-failure",
            "--request-timeout", "30", "--max-time", str(round(seconds)), "--no-color",
        ]  # fmt: skip
        key = ["--header", f"Authorization: Bearer {api_key}"] if api_key else []
        done = subprocess.run([*command, *key], capture_output=True, text=True, check=False, cwd=folder)
    return _read(done.returncode, done.stdout + done.stderr)


def _read(exit_code: int, printed: str) -> Run:
    cases, tested = _CASES.search(printed), _TESTED.search(printed)
    failures: Any = re.findall(r"❌ (ST\d+ [^:\n]+): (\d+)", printed)
    named = {name: int(count) for name, count in failures}
    return Run(int(tested[1]) if tested else 0, int(cases[1]) if cases else 0, named, exit_code, printed)
