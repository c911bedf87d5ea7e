"""``headwater users``: what is stored of a person, its erasure, and the receipt of that."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from headwater.console import checked_secret, command_settings, finish
from headwater.raw_events import read_raw_events
from state.access import Access, read_access
from state.clients import kafka_security, redis_client
from state.decoding import Refusal
from state.erasing import erase_event, standing_receipt, stored_subject, wait_for_receipt
from state.erasure import ErasureKeys
from state.events import User, encode
from state.partition import shard_of
from state.receipts import Receipt, ReceiptError, decode_receipt, read_receipt, verifies
from state.settings import Settings, SettingsError
from state.topics import TopicError, topic_name

Lines = tuple[bool, list[str]]


@click.group()
def users() -> None:
    """Export, erase, and check receipts; ID is a user id, or s: and the id of an anonymous session."""


@users.command("export")
@click.argument("subject", metavar="ID")
@click.option("--events", is_flag=True, help="Also the raw events Kafka still holds; reads whole topics.")
def export_user(subject: str, *, events: bool) -> None:
    """Print everything stored of a visitor as JSON."""
    _end(lambda settings, redis, stored: _export(settings, redis, stored, events=events), subject)


@users.command("erase")
@click.argument("subject", metavar="ID")
@click.option("--why", required=True, help="Kept with the erasure; name nobody in it.")
@click.option("--wait", default=10.0, show_default=True, help="How long to wait for the receipt, s.")
def erase_user(subject: str, why: str, wait: float) -> None:
    """Erase a visitor and print the signed receipt."""

    async def work(settings: Settings, redis: Any, stored: str) -> Lines:
        return await _erase(settings, redis, erase_event(settings, stored, why), wait)

    _end(work, subject)


@users.command("receipt")
@click.argument("subject", metavar="ID")
def show_receipt(subject: str) -> None:
    """Print the receipt of a visitor's last erasure again."""
    _end(_receipt, subject)


@users.command("pseudonym")
@click.argument("subject", metavar="ID")
def show_pseudonym(subject: str) -> None:
    """Print what stands for a user id in all that is stored; the id where ids are stored as they come."""
    try:
        finish((True, [stored_subject(command_settings(), subject)]))
    except (Refusal, SettingsError) as error:
        raise click.ClickException(str(error)) from None


@users.command("verify")
@click.argument("receipt", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def verify_receipt(receipt: Path) -> None:
    """Check the signature of a receipt; exits with 1 where it is not as it was signed."""
    settings = checked_secret(command_settings())
    try:
        document = decode_receipt(receipt.read_bytes())
    except ReceiptError as error:
        finish((False, [str(error)]))
    genuine = verifies(document, ErasureKeys(settings.erasure_key()))
    finish((genuine, ["the receipt is genuine" if genuine else "the receipt is not as it was signed"]))


def _end(work: Callable[[Settings, Any, str], Awaitable[Lines]], subject: str) -> None:
    """Run a command against store and broker, and end with what it prints."""
    settings = checked_secret(command_settings())

    async def run() -> Lines:
        redis = redis_client(settings, timeout_s=5.0)
        try:
            return await work(settings, redis, stored_subject(settings, subject))
        except (Refusal, TopicError) as refusal:
            return False, [str(refusal)]
        except (RedisError, KafkaError, OSError, TimeoutError) as error:
            return False, [f"cannot reach the store or the broker: {error}"]
        finally:
            await redis.aclose()

    finish(asyncio.run(run()))


async def _export(settings: Settings, redis: Any, subject: str, *, events: bool) -> Lines:
    access = await read_access(redis, settings, subject)
    document: dict[str, Any] = msgspec.structs.asdict(access)
    if events:
        document["raw_events"] = await read_raw_events(settings, {subject, *_merged(access)})
    return True, [_printed(document)]


def _merged(access: Access) -> list[str]:
    return [f"s:{session_id}" for session_id in (access.record or {}).get("merged", ())]


async def _erase(settings: Settings, redis: Any, event: User, wait_s: float) -> Lines:
    receipt = await standing_receipt(redis, settings, event.user_id)
    if receipt is None:
        await _publish(settings, event)
        receipt = await wait_for_receipt(redis, settings, event, wait_s)
    if receipt is None:
        return False, [f"published, but not applied after {wait_s:g} s: is a worker running?"]
    return True, [_printed(receipt)]


async def _publish(settings: Settings, event: User) -> None:
    topic, partition = topic_name(settings.namespace, "users"), shard_of(event.user_id, settings.shards)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, **kafka_security(settings)) as producer:
        await producer.send_and_wait(topic, encode(event), key=event.user_id.encode(), partition=partition)


async def _receipt(settings: Settings, redis: Any, subject: str) -> Lines:
    receipt = await read_receipt(redis, settings, subject)
    return receipt is not None, ["no such erasure has been applied" if receipt is None else _printed(receipt)]


def _printed(document: Receipt | dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
