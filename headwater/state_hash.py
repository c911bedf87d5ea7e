"""``headwater state-hash``: the canonical hash of a namespace's folded state."""

import asyncio
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from redis.exceptions import RedisError

from headwater.console import become_service, command_settings, finish, with_namespace
from state.settings import Settings


@click.command("state-hash")
@click.option("--namespace", help="Which namespace; that of the settings otherwise.")
@click.option("--diff", "other", metavar="NAMESPACE", help="Also say which families differ from another's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def state_hash(namespace: str | None, other: str | None, *, as_json: bool) -> None:
    """Print the hash of what a namespace has folded; with --diff, exits with 1 where another's differs."""
    become_service()
    settings = command_settings()
    names = [with_namespace(settings, name or settings.namespace).namespace for name in (namespace, other)]
    finish(asyncio.run(hashed(settings, names[: 1 + (other is not None)], as_json=as_json)))


async def hashed(settings: Settings, namespaces: list[str], *, as_json: bool) -> tuple[bool, list[str]]:
    """Return whether all is well and alike, and the hashes of namespaces as lines."""
    from state.clients import redis_client
    from state.scan import UnreadableKeyError
    from state.statehash import MovingError, hash_state

    redis: Any = redis_client(settings, timeout_s=30.0)
    try:
        found = [await hash_state(redis, namespace) for namespace in namespaces]
    except (MovingError, UnreadableKeyError, RedisError, OSError) as error:
        return False, [str(error)]
    finally:
        await redis.aclose()
    differing = found[0].differences(found[1]) if len(found) > 1 else []
    alike = len({one.hash for one in found}) == 1
    if as_json:
        document = msgspec.to_builtins(found[0])
        if len(found) > 1:
            document |= {"other": msgspec.to_builtins(found[1]), "equal": alike, "differences": differing}
        return alike, [msgspec.json.encode(document).decode()]
    return alike, [line for one in found for line in lines(one)] + differing


def lines(found: Any) -> Iterator[str]:
    """Yield a hash as lines: families, units, all."""
    from state.statehash import APART

    for unit, families in found.families.items():
        for name, family in families.items():
            note = "  (apart)" if name in APART else ""
            yield f"{unit:>4}  {name:<12} {family.entries:>9,}  {family.hash}{note}"
        yield f"{unit:>4}  {'':<12} {'':>9}  {found.units.get(unit, '')}"
    yield f"{found.namespace}: {found.hash}"
