"""The demo itself, short: every decision shown becomes an outcome, every event is counted once."""

import json
import subprocess
import sys
from pathlib import Path

from headwater.embedded import EmbeddedRuntime


def test_a_short_demo_counts_everything_it_published_and_reports_every_figure(
    runtime: EmbeddedRuntime, tmp_path: Path
) -> None:
    report = tmp_path / "demo.json"
    command = [
        sys.executable, "-m", "headwater", "demo", "--events", "300", "--rate", "60", "--exit",
        "--report", str(report), "--kafka", runtime.kafka, "--redis", runtime.redis,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())
    assert figures["decisions"] == figures["outcomes"] == figures["outcomes_learnt"] > 0
    assert figures["counters"]["impressions"] == figures["decisions"]
    assert figures["counters"].get("clicks", 0) == figures["clicks"]
    assert figures["counters"]["feedback"] == figures["interactions"] + figures["freshness_ms"]["probes"]
    assert figures["deadletters"] == figures["request_failures"] == 0
    for name in ("hit_rate_10", "popularity_hit_rate_10", "random_hit_rate_10", "exploration_share"):
        assert 0.0 <= figures[name] <= 1.0, name
    for name in ("hit_rate_10_new_users", "events_per_s"):
        assert name in figures
    assert {"p50", "p99"} <= figures["latency_ms"].keys() & figures["freshness_ms"].keys()
    assert "Dashboard http://127.0.0.1:" in done.stdout
