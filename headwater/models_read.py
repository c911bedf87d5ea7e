"""Reading what lanes have committed of their models, and the names of the categories they met."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from redis.exceptions import RedisError

from online_models.hashing import code_of
from state.clients import redis_client
from state.events import Item
from state.keys import item_unit, items_key, unit_prefix
from state.models import Lifecycle, read_lifecycles
from state.settings import Settings

Lanes = Mapping[int, Lifecycle]
Said = tuple[bool, list[str]]
_CATEGORY = "category:"
_item = msgspec.json.Decoder(Item)


async def shown(settings: Settings, text: Callable[[Mapping[str, Lanes]], Sequence[str]]) -> Said:
    """Return the models of all surfaces as lines."""
    redis = redis_client(settings, timeout_s=5.0)
    try:
        return True, list(text(await read_lifecycles(redis, settings)))
    except (RedisError, OSError, TimeoutError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()


async def shown_one(settings: Settings, surface: str, text: Callable[[str, Lanes], Sequence[str]]) -> Said:
    """Return the models of one surface as lines, categories by their names."""
    redis = redis_client(settings, timeout_s=5.0)
    try:
        found = await read_lifecycles(redis, settings)
        lanes = found.get(surface)
        if lanes is None:
            known = ", ".join(sorted(found)) or "none yet"
            return False, [f"no model of surface {surface}; there are models of: {known}"]
        await _name_categories(redis, settings, lanes)
        return True, list(text(surface, lanes))
    except (RedisError, OSError, TimeoutError) as error:
        return False, [f"cannot reach the store: {error}"]
    finally:
        await redis.aclose()


async def _name_categories(redis: object, settings: Settings, lanes: Lanes) -> None:
    """Put names in the place of codes, looking through the catalogue until all are found."""
    segments = [one for life in lanes.values() for one in life.segments if one.name.startswith(_CATEGORY)]
    wanted = {int(one.name[len(_CATEGORY) :]) for one in segments}
    names: dict[int, str] = {}
    for shard in range(settings.item_shards):
        key = items_key(unit_prefix(settings.namespace, item_unit(shard)))
        async for _, raw in redis.hscan_iter(key, count=500):  # type: ignore[attr-defined]
            if wanted <= names.keys():
                break
            names |= {code_of(name): name for name in _item.decode(raw).categories[:1]}
    for one in segments:
        code = int(one.name[len(_CATEGORY) :])
        one.name = f"{_CATEGORY}{names.get(code, code)}"
