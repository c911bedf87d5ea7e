"""History comes in beside live traffic: each row once, whatever is killed, the present untouched."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headwater.imports.progress import progress_path
from headwater.imports.reading import CHUNK
from headwater.topic_reader import read_to_end
from state.events import Click, encode
from state.subject import HOUR_MS
from tests.integration.rig import Rig, make_items, now_ms, until
from tests.integration.test_exactness import GENRES, more_folded, restart, steady
from tests.integration.traffic import assert_exact

ROWS = 12_000
HISTORY = "history-"
SPAN_MS = 19 * 24 * HOUR_MS
LONG_S, FASTEST = 30.0, 20_000
"""How long an import takes at least, s, at a rate that lets it be as fast as all but the fastest machines."""


def write_history(path: Path, rows: int = ROWS) -> Counter[str]:
    """Write clicks of the last weeks; returns how many each user has.

    Half are by users who visit now, on items long gone: whoever has seen the whole catalogue gets the last
    rung's slates, which nobody learns from.
    """
    source, counts, start = random.Random(3), Counter[str](), now_ms() - 20 * 24 * HOUR_MS
    with path.open("wb") as file:
        for number in range(rows):
            user, item = f"user-{source.randrange(40)}", f"gone-{source.randrange(90)}"
            if number % 2:
                user = f"{HISTORY}{source.randrange(300)}"
                item = f"{source.choice(GENRES)}-{source.randrange(10)}"
            counts[user] += 1
            at_ms = start + number * SPAN_MS // rows
            session = f"{user}-{number // 500}"
            event = Click(
                event_id=f"h{number}", occurred_at=at_ms, session_id=session, user_id=user, item_id=item
            )
            file.write(encode(event) + b"\n")
    return counts


def backfill(rig: Rig, path: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start an import; it ends with the test."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    words = ["backfill", str(path), "--kind", "clicks", "--name", "history", *options]
    child = subprocess.Popen(
        [sys.executable, "-m", "headwater", *words],
        env=environment | rig.settings.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    rig.processes.children.append(child)
    return child


async def said(rig: Rig, child: "subprocess.Popen[bytes]", code: int = 0) -> str:
    """Wait until an import has ended; returns what it said."""
    printed = (await asyncio.to_thread(child.communicate))[0].decode()
    assert child.returncode == code, printed
    return printed


async def imported(rig: Rig, at_least: int) -> None:
    """Wait until so many rows have been folded."""
    await rig.counts(**{"imported.clicks": at_least})


async def assert_counted_once(rig: Rig, history: Counter[str], live_clicks: Counter[str]) -> None:
    """Every row of history counts in its subject's record, once, beside the live events."""
    for user, clicks in history.items():
        record = await rig.subject(user)
        assert record.clicks == clicks + live_clicks[user], user


async def test_killed_importer_and_worker_count_every_row_once_and_live_outcomes_stay_exact(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "clicks.jsonl"
    history = write_history(path)
    (worker,) = await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    async with steady(rig) as visits:
        await more_folded(rig, 10)
        first = backfill(rig, path, "--rate", "1000")
        await imported(rig, ROWS // 6)
        first.kill()
        await said(rig, first, -signal.SIGKILL)
        second = backfill(rig, path, "--rate", "3000")
        await imported(rig, ROWS // 3)
        worker = await restart(rig, worker)
        await said(rig, second)
        await more_folded(rig, 20)
    folded = await rig.folded()
    assert folded.subjects["imported.clicks"] == ROWS
    await assert_outcomes_exact(rig, visits.truth, history)
    assert "already" not in await said(rig, backfill(rig, path, "--again"))
    assert (await rig.folded()).subjects["imported.clicks"] == ROWS
    await assert_counted_once(rig, history, visits.truth.clicks)


async def assert_outcomes_exact(rig: Rig, truth: object, history: Counter[str]) -> None:
    """Live counts and outcomes equal the truth, once the history is taken off the records."""
    truth.clicks.update(history)  # type: ignore[attr-defined]
    try:
        await assert_exact(rig, truth)  # type: ignore[arg-type]
    finally:
        truth.clicks.subtract(history)  # type: ignore[attr-defined]


async def test_windows_close_and_answers_stay_fresh_while_a_long_import_goes_on(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "clicks.jsonl"
    write_history(path, int(LONG_S * FASTEST))
    await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    running = backfill(rig, path, "--rate", str(FASTEST))
    await imported(rig, 1)
    async with steady(rig) as visits:
        await more_folded(rig, 60)
        closed = (await rig.folded()).closed

        async def more_closed() -> bool:
            return (await rig.folded()).closed > closed + 20

        await until(more_closed, "windows close")
        assert running.poll() is None, "the import ended too early to tell"
    running.terminate()
    assert "the same command goes on" in await said(rig, running, 130)
    await assert_late_free(rig, visits.truth.events)


async def test_an_import_goes_only_so_far_ahead_of_workers_that_are_away(rig: Rig, tmp_path: Path) -> None:
    path, ahead = tmp_path / "clicks.jsonl", 500
    write_history(path)
    waiting = backfill(rig, path, "--ahead", str(ahead))

    async def sent() -> Counter[int]:
        return Counter([record.partition async for record in read_to_end(rig.settings, "clicks")])

    async def is_ahead() -> bool:
        return max((await sent()).values(), default=0) >= ahead

    await until(is_ahead, f"{ahead} rows of a partition are sent")
    await asyncio.sleep(2.0)  # time to go on, were it not to wait
    assert max((await sent()).values()) < ahead + 2 * CHUNK
    await rig.start(servers=0)
    assert f"{ROWS:,} sent" in await said(rig, waiting)
    assert (await rig.folded()).subjects["imported.clicks"] == ROWS


async def assert_late_free(rig: Rig, published: Counter[str]) -> None:
    """No live event was late, and all were folded."""
    folded = await rig.counts(**published)
    assert not [name for name in folded.subjects if name.endswith(".late")], folded.subjects


async def test_a_server_ranks_by_imported_sessions_soon_after_without_a_restart(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.start()
    await rig.catalogue(make_items(GENRES, 10))
    path, at_ms = tmp_path / "clicks.csv", now_ms() - 3 * 24 * HOUR_MS
    lines = ["who,what,when"]
    for n in range(40):
        lines += [f"h{n},drama-1,{at_ms + n * 1000}", f"h{n},crime-7,{at_ms + n * 1000 + 500}"]
    path.write_text("\n".join(lines) + "\n")
    await said(
        rig,
        backfill(rig, path, "--map", "user_id=who", "--map", "item_id=what", "--map", "occurred_at=when"),
    )
    similar = await similar_to(rig, "drama-1")
    assert similar == "crime-7"


async def similar_to(rig: Rig, item_id: str) -> str:
    """Wait until sessions vote for a visitor who took one item; returns the item at the top by them."""

    async def voted() -> Sequence[str]:
        answer = await rig.ask("new-visitor", k=5, recent_items=[item_id])
        return [item.item_id for item in answer.items if item.reason in ("neighbours", "seen together")]

    found: Sequence[str] = await until(voted, "sessions vote")
    return found[0]


async def test_other_files_under_the_same_name_are_refused(rig: Rig, tmp_path: Path) -> None:
    await rig.start(servers=0)
    path = tmp_path / "clicks.jsonl"
    write_history(path, 20)
    await said(rig, backfill(rig, path))
    assert "20 rows: 20 sent" in await said(rig, backfill(rig, path))
    write_history(path, 21)
    assert "begun with other files or options" in await said(rig, backfill(rig, path), 1)
    progress_path(path, rig.settings.namespace, "history").unlink()
    assert "begun with other files or options" in await said(rig, backfill(rig, path), 1)
    assert (await rig.folded()).subjects["imported.clicks"] == 20
