"""A server's background work ends when the server does."""

import asyncio
from contextlib import suppress

from serving.app import end_tasks


async def follow(swallowed: int) -> None:
    """Go on for ever, through so many cancellations."""
    while True:
        if swallowed:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            swallowed -= 1
        else:
            await asyncio.sleep(3600)


async def test_a_swallowed_cancellation_does_not_keep_a_server_from_stopping() -> None:
    tasks = [asyncio.create_task(follow(swallowed)) for swallowed in (0, 1, 2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        await end_tasks(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_nothing_to_end_is_no_trouble() -> None:
    async with asyncio.timeout(1.0):
        await end_tasks([])
    assert not asyncio.all_tasks() - {asyncio.current_task()}
