"""The server under test with two more routes: one that does only the store read, one that does nothing."""

import os
from typing import Any
from unittest.mock import patch

from litestar import Litestar, MediaType, Request, get
from litestar.datastructures import State

from headwater.logs import configure_logs
from serving import app as product
from serving.metrics import ServerMetrics
from serving.reader import SubjectReader
from state.clients import redis_client
from state.settings import Settings, load_settings

READ_PATH = "/floor/read/"
BARE_PATH = "/floor/bare"


@get(READ_PATH + "{user:str}", media_type=MediaType.JSON)
async def read_only(user: str, request: Request[Any, Any, State]) -> bytes:
    """Read one visitor's record as a recommendation does; answer next to nothing."""
    record = await request.app.state.floor.read(user)
    return b'{"found":true}' if record is not None and record.events else b'{"found":false}'


@get(BARE_PATH, media_type=MediaType.JSON)
async def bare() -> bytes:
    """Answer next to nothing."""
    return b'{"found":false}'


def with_floor(built: Litestar, settings: Settings) -> Litestar:
    """Add the floor's routes to the product's application."""
    redis = redis_client(settings, timeout_s=settings.redis_timeout_ms / 1000)

    async def close() -> None:
        await built.state.floor.aclose()
        await redis.aclose()

    built.state.floor = SubjectReader(settings, redis, ServerMetrics())
    built.on_shutdown.append(close)
    built.register(read_only)
    built.register(bare)
    return built


def main() -> None:
    """Serve until told to stop, exactly as ``headwater serve`` does."""
    settings = load_settings(os.environ)
    configure_logs(settings.log_level)
    plain = product.build_app
    with patch.object(product, "build_app", lambda given: with_floor(plain(given), given)):
        product.run(settings)


if __name__ == "__main__":
    main()
