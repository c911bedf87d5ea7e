"""The fault benchmark, short: everything at once that may go wrong, and every count exact afterwards."""

import pytest

from benchmarks._faults_chaos import Pace
from benchmarks.faults import Plan, durable_store, fault_settings, run_faults
from headwater.embedded import EmbeddedRuntime
from tests.integration.rig import ON_KAFKA, SESSION_TIMEOUT_S

SECONDS = 10.0
PACE = Pace(kill_s=4.0, pause_s=7.0, restart_s=5.0)


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_or_doubled_while_workers_and_store_die(
    runtime: EmbeddedRuntime, seed: int
) -> None:
    with durable_store() as store:
        times = {"lateness_s": 10.0 if ON_KAFKA else 5.0, "decision_wait_s": 4.0}
        settings = fault_settings(
            runtime.kafka, store.url, seed=seed, session_timeout_s=SESSION_TIMEOUT_S, **times
        )
        report = await run_faults(settings, store, (), Plan(SECONDS, rate=150.0, pace=PACE))
    assert (report["lost"], report["doubled"], report["stuck_units"]) == (0, 0, {}), report
    assert report["all_closed"]
    assert report["crashes"] == 0
    assert report["past_lateness"] == 0
    assert min(report[fault] for fault in ("kills", "pauses", "restarts", "store_kills", "garbage")) > 0
