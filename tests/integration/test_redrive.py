"""What was refused gets its second chance, once: however often it is sent, and whoever dies meanwhile."""

import asyncio
import json
import signal

import msgspec

from headwater.demo.counts import Folded
from state.events import Feedback, encode
from state.partition import shard_of
from state.settings import DEFAULT_FEEDBACK, FeedbackKind
from tests.integration.rig import Rig, feedback_on, is_alive, make_items

FIXED = {**DEFAULT_FEEDBACK, "bookmark": FeedbackKind(reward=1.0)}
USERS = 12
EACH = 5
EVENTS = USERS * EACH


async def refuse_bookmarks(rig: Rig) -> list[Feedback]:
    """Publish feedback of a kind nobody knows, and wait until all of it is refused."""
    bookmarks = [
        feedback_on(f"user-{n % USERS}", f"drama-{n // USERS}", kind="bookmark") for n in range(EVENTS)
    ]
    await rig.publish(*bookmarks)
    await rig.counts(**{"refused.unknown_feedback": EVENTS})
    await rig.events("deadletters", EVENTS)
    return bookmarks


async def replace_worker(rig: Rig) -> None:
    """Kill every worker, and start one that knows the kind."""
    before = await rig.epochs()
    for child in rig.processes.children:
        if is_alive(child):
            child.send_signal(signal.SIGKILL)
            await rig.ended(child)
    rig.processes.worker(feedback=FIXED)
    await rig.claimed(since=before)


async def redrive(rig: Rig, *more: str) -> str:
    """Run the command; returns what it prints."""
    return await rig.command("deadletters", "redrive", "--reason", "unknown_feedback", "--since", "1h", *more)


async def assert_each_once(rig: Rig, bookmarks: list[Feedback], folded: Folded) -> None:
    assert folded.subjects["feedback"] == EVENTS
    assert folded.refused == EVENTS
    for user in {one.subject for one in bookmarks}:
        record = await rig.subject(user)
        wished = [one.item_id for one in bookmarks if one.subject == user]
        assert (record.recent, record.events) == (wished, EACH)


async def test_refused_feedback_is_redriven_after_the_fix_and_counts_once(rig: Rig) -> None:
    await rig.start(servers=0)
    bookmarks = await refuse_bookmarks(rig)
    listed = json.loads(await rig.command("deadletters", "list", "--json", "--limit", "1"))
    assert listed["counts"] == [{"reason": "unknown_feedback", "topic": "feedback", "letters": EVENTS}]
    letter = listed["letters"][0]["event_id"]
    assert '"kind":"bookmark"' in await rig.command("deadletters", "show", letter)
    assert f"{EVENTS} events would be sent" in await redrive(rig, "--dry-run")

    await replace_worker(rig)
    assert f"{EVENTS} events sent" in await redrive(rig)
    await assert_each_once(rig, bookmarks, await rig.counts(feedback=EVENTS))
    assert f"{EVENTS} events sent" in await redrive(rig)
    assert "1 events sent" in await rig.command("deadletters", "redrive", "--id", letter)
    folded = await rig.counts(**{"feedback.redriven_again": EVENTS + 1})
    await assert_each_once(rig, bookmarks, folded)


async def test_a_worker_killed_among_redriven_events_counts_each_once(rig: Rig) -> None:
    await rig.start(servers=0)
    bookmarks = await refuse_bookmarks(rig)
    await replace_worker(rig)
    for _ in range(2):
        sending = asyncio.create_task(redrive(rig))
        await asyncio.sleep(1.0)
        await replace_worker(rig)
        assert f"{EVENTS} events sent" in await sending
    folded = await rig.counts(**{"feedback": EVENTS, "feedback.redriven_again": EVENTS})
    assert folded.subjects["feedback.redriven_again"] == EVENTS
    await assert_each_once(rig, bookmarks, folded)


async def test_what_is_redriven_too_early_is_refused_again_and_still_counts_once(rig: Rig) -> None:
    await rig.start(servers=0)
    bookmarks = await refuse_bookmarks(rig)
    await redrive(rig)
    await rig.counts(**{"refused.unknown_feedback": 2 * EVENTS})
    await rig.events("deadletters", 2 * EVENTS)
    await replace_worker(rig)
    assert f"{EVENTS} events sent" in await redrive(rig)
    folded = await rig.counts(feedback=EVENTS)
    folded.subjects["refused"] -= EVENTS
    await assert_each_once(rig, bookmarks, folded)


async def test_items_and_garbage_are_redriven_beside_each_other_and_no_old_item_comes_back(rig: Rig) -> None:
    (worker,) = await rig.start()
    (good,) = make_items(("drama",), 1)
    bad = encode(msgspec.structs.replace(good, title="bad", item_id="other"))
    await rig.send("items", bad, b"drama-0", 0)  # under another key than its id
    await rig.publish(good)
    home = shard_of("bad", rig.settings.shards)
    await rig.send("clicks", b"\xff\x00", b"bad", home)
    await rig.ready(rig.api, items=1)
    await rig.events("deadletters", 2)
    printed = await rig.command("deadletters", "redrive", "--reason", "bad_key", "--since", "1h")
    assert "0 events sent" in printed
    assert "1 left out: overtaken by a later record of its key" in printed
    await rig.command("deadletters", "redrive", "--reason", "malformed_json", "--since", "1h")
    letters = await rig.events("deadletters", 3)
    first, second = [one for one in letters if one.reason == "malformed_json"]
    assert {first.origin, second.origin} == {first.event_id if not first.redrive else second.event_id}
    await rig.send("clicks", b"x" * 1_000_000, b"bad", home)
    (huge,) = [one for one in await rig.events("deadletters", 4) if one.reason == "too_large"]
    printed = await rig.command("deadletters", "redrive", "--id", huge.event_id)
    assert (huge.cut_from, "1 left out: too large" in printed) == (1_000_000, True)
    assert is_alive(worker)
    await rig.publish(feedback_on("someone", "drama-0"))
    await rig.counts(feedback=1)
