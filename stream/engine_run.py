"""Running a Faust app: inside another program, or as the whole of a worker process."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import faust
import uvloop

log = logging.getLogger(__name__)

# Every rebalance makes the coordinator warn of a failed heartbeat, which is how a member learns of it.
QUIET = {
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
    "aiokafka.consumer.group_coordinator": logging.ERROR,
}


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[None]:
    """Start the app, and stop it at the end; entered when its first assignment is claimed.

    Raises
    ------
    BaseException
        Whatever crashed the app, at entry or at exit.
    """
    try:
        await app.start()
        _raise_crash(app)
        yield
    finally:
        await app.stop()
    _raise_crash(app)


def _raise_crash(app: faust.App) -> None:
    if app.crashed:
        raise app.crash_reason or RuntimeError("the stream engine crashed without saying why")


def run_worker(app: faust.App) -> int:
    """Run until SIGTERM or SIGINT, and return the exit code: 0, or 1 after a crash."""
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(app))


async def _serve(app: faust.App) -> int:
    serving = asyncio.ensure_future(_until_stopped(app))
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return 0
    except Exception:
        log.exception("The worker ends")
        return 1
    return 0


async def _until_stopped(app: faust.App) -> None:
    async with running(app):
        await app.wait_until_stopped()
