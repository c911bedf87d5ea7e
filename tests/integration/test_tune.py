"""Tuning on a real store: clicks go through the broker and a worker, the command reads what was folded."""

import json
from pathlib import Path

from headwater.evaluation.clicks import read_stream
from headwater.stored_sessions import read_sessions
from tests.integration.rig import Rig, click_on

USERS, STEPS = 220, 12


async def test_a_namespace_is_tuned_from_the_sessions_its_worker_stored(rig: Rig, tmp_path: Path) -> None:
    await rig.start(servers=0)
    for step in range(STEPS):
        await rig.publish(*(click_on(f"u{n}", f"item-{(n + 7 * step) % 40}") for n in range(USERS)))
    folded = await rig.counts(clicks=USERS * STEPS)
    assert folded.refused == 0

    stored = await read_sessions(rig.settings)
    assert sum(len(row.items) for row in stored) == USERS * STEPS

    before = await rig.command("state-hash")
    out, log = tmp_path / "found.json", tmp_path / "log"
    printed = await rig.command("tune", "--tries", "1", "--json", str(out), "--log-into", str(log))
    assert "settings in force" in printed
    report = json.loads(out.read_text())
    assert report["settings_in_force"]["n"] > 300
    assert len(read_stream(log).rest) == USERS * STEPS
    assert await rig.command("state-hash") == before
