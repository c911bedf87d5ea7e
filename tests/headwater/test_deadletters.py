"""Dead letters are counted, shown and sent again to where they belong; nothing in them is obeyed."""

import asyncio
import base64
import json
import time
from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from headwater.cli import main
from headwater.deadletters import Since, describe, report_lines
from headwater.embedded import EmbeddedRuntime
from headwater.letters import Letter, Recent, Wanted, find_letters, read_letter, summarize
from headwater.redrive import Report, hindrance, redrive, resend
from headwater.topic_reader import read_to_end
from state.clients import redis_client
from state.erasure import ErasureKeys
from state.events import DeadLetter, encode
from state.keys import erased_key, unit_prefix
from state.outbox import FORWARDED_HEADER, REDRIVE_HEADER
from state.partition import shard_of
from state.retention import DAY_MS, LETTERS_KEPT_MS
from state.settings import Settings
from state.topics import TopicError, create_topics, topic_name, topic_specs

NOW = time.time_ns() // 1_000_000
SECRET = "dead letters' secret"
CLICK = b'{"user_id":"u1","session_id":"s1"}'


def letter(offset: int = 1, raw: bytes = CLICK, *, written_at: int = NOW, **more: Any) -> Letter:
    given: dict[str, Any] = {
        "topic": "clicks",
        "partition": 2,
        "reason": "unknown_value",
        "key": b"u1",
        **more,
    }
    key = given.pop("key")
    return Letter(
        DeadLetter(
            event_id=f"{given['partition']}-{given['topic']}-{given['partition']}-{offset}",
            occurred_at=NOW,
            detail="why",
            offset=offset,
            raw=base64.b64encode(raw).decode(),
            key=None if key is None else base64.b64encode(key).decode(),
            **given,
        ),
        written_at,
    )


# -- where an event goes


@pytest.mark.parametrize(
    ("kind", "raw", "subject"),
    [
        ("clicks", CLICK, "u1"),
        ("feedback", b'{"session_id":"s1"}', "s:s1"),
        ("users", b'{"user_id":"u9","session_id":7}', None),
        ("users", b'{"user_id":"u9"}', "u9"),
        ("impressions", b'{"user_id":"u1"}', "u1"),
        ("clicks", b"{", None),
        ("clicks", b"", None),
        ("clicks", b"\xff", None),
        ("clicks", b"[" * 100_000, None),
        ("clicks", b'{"user_id":7,"session_id":"s1"}', None),
        ("items", b'{"item_id":"a","user_id":"u1"}', None),
        ("outcomes", CLICK, None),
    ],
)
def test_an_event_goes_to_its_subjects_shard_else_to_where_it_came_from(
    kind: str, raw: bytes, subject: str | None
) -> None:
    sent = resend(letter(raw=raw, topic=kind, reason="malformed_json"), shards=7)
    assert (sent.kind, sent.key, sent.value) == (kind, b"u1", raw)
    assert sent.partition == (2 if subject is None else shard_of(subject, 7))


def test_what_is_sent_names_its_first_letter() -> None:
    again = letter(9, redrive="2-clicks-2-1")
    assert resend(again, 4).headers == [(REDRIVE_HEADER, b"2-clicks-2-1")]
    assert resend(letter(9), 4).headers == [(REDRIVE_HEADER, b"2-clicks-2-9")]


@pytest.mark.parametrize(("reason", "is_marked"), [("fold_failed", True), ("misrouted", False)])
def test_what_shards_say_to_each_other_stays_marked_except_where_that_was_wrong(
    reason: str, is_marked: bool
) -> None:
    sent = resend(letter(reason=reason, forwarded=True), 4)
    assert (FORWARDED_HEADER in dict(sent.headers)) == is_marked


def test_a_null_value_stays_null_and_an_empty_one_empty() -> None:
    assert resend(letter(raw=b"", reason="bad_key", topic="items"), 4).value is None
    assert resend(letter(raw=b"", reason="malformed_json", key=None), 4).value == b""


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (letter(), ""),
        (letter(cut_from=9_000_000), "too large"),
        (letter(written_at=NOW - LETTERS_KEPT_MS - 1), "older than 90 days"),
        (letter(3, topic="items", key=b"a"), "overtaken"),
        (letter(8, topic="items", key=b"a"), ""),
        (letter(3, topic="items", key=b"b"), ""),
    ],
)
def test_a_letter_that_cannot_be_redriven_is_left_out_with_the_reason(one: Letter, why: str) -> None:
    assert hindrance(one, NOW, {("items", 2, b"a"): 8}).startswith(why)
    assert bool(hindrance(one, NOW, {("items", 2, b"a"): 8})) == bool(why)


# -- which letters


def test_a_letter_is_wanted_by_reason_time_topic_and_id() -> None:
    one = letter()
    for yes in (
        Wanted(),
        Wanted("unknown_value", NOW, "clicks", frozenset({"2-clicks-2-1"})),
        Wanted(ids=frozenset({"x", "2-clicks-2-1"})),
    ):
        assert yes.includes(one)
    for no in (
        Wanted("misrouted"),
        Wanted(since_ms=NOW + 1),
        Wanted(topic="users"),
        Wanted(ids=frozenset({"2-clicks-2-2"})),
    ):
        assert not no.includes(one)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"{",
        b"\xff",
        encode(letter(topic="weather").letter),
        encode(letter().letter).replace(base64.b64encode(CLICK), b"A"),
        encode(letter().letter).replace(base64.b64encode(CLICK), "ü".encode()),
    ],
)
def test_a_record_that_is_no_letter_is_passed_over(raw: bytes | None) -> None:
    assert read_letter(raw, NOW) is None


def test_the_latest_names_are_remembered_and_no_more() -> None:
    recent = Recent(2)
    assert [recent.is_new(name) for name in "aabab"] == [True, False, True, False, False]
    assert [recent.is_new(name) for name in "cacb"] == [True, True, False, True]


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-01-02", 1_767_312_000_000),
        ("2026-01-02T03:04:05Z", 1_767_323_045_000),
        ("2026-01-02T04:04:05.5+01:00", 1_767_323_045_500),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, at_ms: int) -> None:
    assert Since().convert(text, None, None) == at_ms


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)])
def test_a_duration_lies_before_now(text: str, seconds: int) -> None:
    at_ms = Since().convert(text, None, None)
    assert abs(time.time() - at_ms / 1000 - seconds) < 5


# -- what is printed


def test_everything_of_a_letter_is_shown_with_its_text() -> None:
    lines = "\n".join(describe(letter(forwarded=True, redrive="0-clicks-0-1")))
    for part in (
        "2-clicks-2-1",
        "unknown_value",
        "why",
        "by another shard",
        "0-clicks-0-1",
        "u1",
        CLICK.decode(),
    ):
        assert part in lines


def test_bytes_that_are_no_text_are_shown_in_hexadecimal_and_no_terminal_obeys_them() -> None:
    lines = "\n".join(describe(letter(raw=b"\x1b[2Jgone", key=b"\xff\x00")))
    assert "\x1b" not in lines
    assert "1b5b324a 676f6e65" in lines
    spoilt = letter()
    spoilt.letter.detail = "a\x1b[2J\nb"
    assert not any("\x1b" in line or "\n" in line for line in describe(spoilt)[:5])


def test_what_was_cut_is_said() -> None:
    lines = "\n".join(describe(letter(cut_from=2_000_000)))
    assert "2000000 bytes" in lines
    assert f"the first {len(CLICK)} are kept" in lines


def test_a_report_says_what_was_sent_and_what_was_left_out_and_why() -> None:
    report = Report(Counter({("unknown_feedback", "feedback"): 12}), Counter({"too large": 1}))
    assert report_lines(report, "sent") == [
        "12 events sent",
        "       12  unknown_feedback  feedback",
        "1 left out: too large",
    ]


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(
        main, ["deadletters", *words], env={f"HEADWATER_{k}": v for k, v in environment.items()}
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("redrive",), "--reason and --since, or --id"),
        (("redrive", "--reason", "misrouted"), "--reason and --since, or --id"),
        (("redrive", "--since", "1h"), "--reason and --since, or --id"),
        (("list", "--since", "yesterday"), "'yesterday' is neither a duration like 90s"),
        (("list", "--topic", "deadletters"), "'deadletters' is not one of 'impressions'"),
        (("list", "--limit", "-1"), "-1 is not in the range"),
        (("show",), "Missing argument 'ID'"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(words: tuple[str, ...], part: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert part in result.output


def test_a_broker_that_is_not_there_is_told_in_one_line(runtime: EmbeddedRuntime) -> None:
    result = run("list", KAFKA="127.0.0.1:1", REDIS=runtime.redis, TOKEN_SECRET=SECRET)
    assert result.exit_code == 1
    assert "cannot read or write the broker" in result.output
    assert "Traceback" not in result.output


# -- on a real broker


@pytest.fixture
async def told(runtime: EmbeddedRuntime, namespace: str) -> Settings:
    settings = Settings(
        kafka=runtime.kafka, redis=runtime.redis, namespace=namespace, shards=3, token_secret=SECRET
    )
    await create_topics(settings.kafka, topic_specs(namespace, settings.shards))
    return settings


async def write(settings: Settings, kind: str, *records: tuple[int, bytes | None, bytes]) -> None:
    topic = topic_name(settings.namespace, kind)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for number, (partition, key, value) in enumerate(records):
            at = NOW + number
            await producer.send_and_wait(topic, value, key=key, partition=partition, timestamp_ms=at)


async def test_a_topic_is_read_to_its_end_and_not_beyond(told: Settings) -> None:
    await write(told, "clicks", *((n % 3, None, b"%d" % n) for n in range(30)))
    seen = [int(record.value) async for record in read_to_end(told, "clicks")]
    assert sorted(seen) == list(range(30))
    assert [n for n in seen if n % 3 == 1] == list(range(1, 30, 3))
    some = [int(record.value) async for record in read_to_end(told, "clicks", starts={1: 8})]
    assert some == [25, 28]
    assert [record async for record in read_to_end(told, "users")] == []


async def test_letters_of_an_erased_subject_are_not_shown_and_not_sent_again(told: Settings) -> None:
    gone, stays = (b'{"user_id":"%s","session_id":"s1"}' % user for user in (b"gone", b"stays"))
    letters = [letter(0, gone, key=b"gone").letter, letter(1, stays, key=b"stays").letter]
    await write(told, "deadletters", *((0, None, encode(one)) for one in letters))
    keys, shard = ErasureKeys(told.erasure_key()), shard_of("gone", told.shards)
    key = erased_key(unit_prefix(told.namespace, str(shard)))
    async with redis_client(told, timeout_s=5.0) as redis:
        await redis.hset(key, keys.subject("gone"), b'{"erased_at": %d, "commit": 1}' % (NOW + 10))
    assert [one.letter.event_id async for one in find_letters(told, Wanted())] == [letters[1].event_id]


async def test_a_missing_topic_is_named(runtime: EmbeddedRuntime, namespace: str) -> None:
    settings = Settings(kafka=runtime.kafka, redis=runtime.redis, namespace=namespace, token_secret=SECRET)
    with pytest.raises(TopicError, match=f"{namespace}.deadletters is missing"):
        [one async for one in find_letters(settings, Wanted())]


async def test_letters_are_counted_once_by_reason_and_topic_and_the_newest_are_listed(told: Settings) -> None:
    letters = [letter(n, reason=("misrouted", "unknown_value")[n % 2]) for n in range(10)]
    copies = [*letters, letters[3], letters[4]]
    records = [(one.letter.offset % 3, b"u1", encode(one.letter)) for one in copies]
    await write(told, "deadletters", *records)
    await write(told, "deadletters", (0, None, b"no letter at all"))
    summary = await summarize(told, Wanted(), 3)
    assert summary.counts == {("misrouted", "clicks"): 5, ("unknown_value", "clicks"): 5}
    assert [one.letter.offset for one in summary.newest] == [9, 8, 7]
    result = await asyncio.to_thread(
        run,
        "list",
        "--json",
        "--limit",
        "1",
        KAFKA=told.kafka,
        REDIS=told.redis,
        TOKEN_SECRET=SECRET,
        NAMESPACE=told.namespace,
    )
    printed = json.loads(result.output)
    assert {(one["reason"], one["letters"]) for one in printed["counts"]} == {
        ("misrouted", 5),
        ("unknown_value", 5),
    }
    assert len(printed["letters"]) == 1


async def test_a_dry_run_sends_nothing_and_a_run_sends_each_event_once(told: Settings) -> None:
    again = letter(4, redrive=letter(1).letter.event_id)
    letters = [letter(1), letter(2), letter(2), again, letter(3, cut_from=10**7)]
    await write(told, "deadletters", *((0, b"u1", encode(one.letter)) for one in letters))
    for dry_run, there in ((True, 0), (False, 2)):
        report = Report()
        await redrive(told, Wanted("unknown_value"), report, dry_run=dry_run)
        assert report.sent == {("unknown_value", "clicks"): 2}
        assert report.left_out == {"too large to be kept whole": 1}
        records = [record async for record in read_to_end(told, "clicks")]
        assert len(records) == there
    marks = {(r.partition, r.key, r.value, dict(r.headers)[REDRIVE_HEADER]) for r in records}
    home = shard_of("u1", told.shards)
    assert marks == {(home, b"u1", CLICK, b"2-clicks-2-%d" % n) for n in (1, 2)}


async def test_an_item_that_a_later_record_replaced_does_not_come_back(told: Settings) -> None:
    await write(told, "items", (0, b"a", b"bad"), (0, b"b", b"bad"), (0, b"a", b"good"))
    letters = [letter(n, b"bad", topic="items", partition=0, key=key) for n, key in ((0, b"a"), (1, b"b"))]
    await write(told, "deadletters", *((0, b"", encode(one.letter)) for one in letters))
    report = Report()
    await redrive(told, Wanted("unknown_value"), report, dry_run=False)
    assert (report.sent.total(), list(report.left_out)) == (1, ["overtaken by a later record of its key"])
    assert [record.key async for record in read_to_end(told, "items")] == [b"a", b"b", b"a", b"b"]


async def test_since_leaves_out_what_was_refused_before(told: Settings) -> None:
    old, new = letter(1), letter(2)
    topic = topic_name(told.namespace, "deadletters")
    async with AIOKafkaProducer(bootstrap_servers=told.kafka) as producer:
        for one, at in ((old, NOW - DAY_MS), (new, NOW)):
            await producer.send_and_wait(topic, encode(one.letter), partition=0, timestamp_ms=at)
    found = [one.letter.offset async for one in find_letters(told, Wanted(since_ms=NOW - 60_000))]
    assert found == [2]
