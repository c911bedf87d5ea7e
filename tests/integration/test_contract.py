"""The server does what its OpenAPI document says: schemathesis tries it, with all checks."""

import asyncio

from benchmarks._schemathesis import run_schemathesis
from tests.integration.rig import Rig, is_alive, make_items

SECONDS = 25.0


async def test_the_server_keeps_to_its_own_document(rig: Rig) -> None:
    await rig.start()
    await rig.catalogue(make_items(("drama", "comedy"), 10))
    found = await asyncio.to_thread(run_schemathesis, rig.api, examples=2, seconds=SECONDS, seed=1)
    print(f"{found.cases} cases of {found.operations} operations: {found.failures or 'no failure'}")
    assert found.exit_code == 0, found.printed
    assert found.cases > 100
    assert found.operations > 25
    assert all(is_alive(child) for child in rig.processes.children)
