"""Control documents as the store holds them: the current one of a name, and the versions before it."""

from typing import Any

from state.exploration import Document, decode_document, is_known_kind, kind_of
from state.keys import CONTROL, control_key, history_key, unit_prefix, version_field
from state.retention import HISTORY_CAP
from state.settings import Settings


async def read_current(redis: Any, settings: Settings, name: str) -> Document:
    """Return the latest document of a name; the defaults where nobody has said anything."""
    raw = await redis.hget(control_key(unit_prefix(settings.namespace, CONTROL)), name)
    return kind_of(name)() if raw is None else decode_document(name, raw)


async def read_all(redis: Any, settings: Settings) -> dict[str, Document]:
    """Return the latest document of every name of a known kind."""
    held = await redis.hgetall(control_key(unit_prefix(settings.namespace, CONTROL)))
    named = {name.decode(): raw for name, raw in held.items()}
    return {n: decode_document(n, raw) for n, raw in named.items() if is_known_kind(n)}


async def read_version(redis: Any, settings: Settings, name: str, version: int) -> Document | None:
    """Return one version of a name; None where it is not kept, the defaults for 0."""
    if version == 0:
        return kind_of(name)()
    raw = await redis.hget(
        history_key(unit_prefix(settings.namespace, CONTROL)), version_field(name, version)
    )
    return None if raw is None else decode_document(name, raw)


async def read_history(redis: Any, settings: Settings, name: str) -> list[Document]:
    """Return the versions of a name that are kept, newest first."""
    version = (await read_current(redis, settings, name)).version
    fields = [version_field(name, number) for number in range(version, max(0, version - HISTORY_CAP), -1)]
    if not fields:
        return []
    raws = await redis.hmget(history_key(unit_prefix(settings.namespace, CONTROL)), fields)
    return [decode_document(name, raw) for raw in raws if raw is not None]
