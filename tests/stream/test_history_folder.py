"""Rows of an import pass through a folder without moving its watermark or counting as waiting events."""

import asyncio

import msgspec

from headwater.embedded import EmbeddedRuntime
from state.clients import redis_client
from state.events import Item, encode
from state.imports import import_mark
from state.keys import meta_key, unit_prefix
from state.outbox import IMPORT_HEADER, NUMBER_HEADER
from state.settings import Settings
from stream.catalogue import CatalogueLogic
from stream.effects import Place
from stream.folder import Folder
from stream.rows import Row, decode_row
from stream.watermark import Progress
from tests.stream.folding import AT
from tests.stream.test_isolation import LogPorts


class Observed(LogPorts):
    """Ports that keep the age every commit was noted with."""

    def __init__(self, redis: object) -> None:
        super().__init__(redis, [])
        self.ages: list[int | None] = []

    def observe(self, unit: str, rows: int, seconds: float, event_age_ms: int | None) -> None:  # noqa: ARG002
        self.ages.append(event_age_ms)


def item(offset: int, at_ms: int, number: int = 0) -> Row:
    raw = encode(Item(event_id=f"e{offset}", occurred_at=at_ms, item_id=f"i{offset}"))
    mark = import_mark("old", "0" * 16).encode()
    headers = [(IMPORT_HEADER, mark), (NUMBER_HEADER, b"%d" % number)] if number else []
    return decode_row(Row("items", 0, offset, at_ms, f"i{offset}".encode(), raw), headers, 0)


async def test_imported_rows_move_no_watermark_and_have_no_age(
    runtime: EmbeddedRuntime, namespace: str
) -> None:
    redis = redis_client(Settings(redis=runtime.redis, token_secret="a secret of the tests"))
    prefix = unit_prefix(namespace, "i0")
    ports = Observed(redis)
    folder = Folder(lambda: CatalogueLogic(Place(prefix, "i0", 0)), 0, ports)
    await folder.start()
    try:
        await folder.enqueue([item(0, AT)])
        await committed(folder, 1)
        await folder.enqueue([item(1, AT + 10**6, 1), item(2, AT - 10**9, 2)])
        await committed(folder, 3)
        kept = await redis.hget(meta_key(prefix), "progress")
        progress = msgspec.json.decode(kept or b"", type=Progress)
        assert progress == Progress({"items": AT}, AT)
        assert [age is None for age in ports.ages] == [False, True]
    finally:
        await folder.stop()
        await redis.aclose()


async def committed(folder: Folder, offset: int) -> None:
    """Wait until everything before an offset is committed."""
    async with asyncio.timeout(20):
        while folder.positions().get(("items", 0)) != offset:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
