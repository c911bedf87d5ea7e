"""Files of history become events: whatever their format, and every row that cannot be taken is told."""

import contextlib
import csv
import gzip
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from headwater.cli import main
from headwater.imports.progress import (
    Progress,
    Rejected,
    fingerprint_of,
    progress_path,
    read_progress,
    write_progress,
)
from headwater.imports.shape import EventMaker, Shape, ShapeError, is_expired
from headwater.imports.sources import LONGEST_LINE, Source, SourceError
from state.decoding import Refusal
from state.events import Click, Event, Feedback, Impression, Item, ShownItem, User
from state.settings import Settings

NOW = 1_750_000_000_000
DAY_MS = 86_400_000
CLICK = {"user_id": "u", "session_id": "s", "item_id": "i", "occurred_at": NOW - DAY_MS}


def make(shape: Shape, row: dict[str, Any] | bytes, number: int = 7) -> Event:
    """The event of a row."""
    return EventMaker(shape, Settings()).make(number, row, NOW)[0]


def clicks(**more: Any) -> Shape:
    return Shape("orders", "clicks", **more)


def test_a_row_becomes_the_event_of_its_topic_with_an_id_of_its_import_and_number() -> None:
    row = {**CLICK, "decision": "a token", "producer": "shop", "colour": "red"}
    assert make(clicks(), row) == Click(
        event_id="orders:7",
        occurred_at=NOW - DAY_MS,
        session_id="s",
        user_id="u",
        item_id="i",
        producer="import:orders",
    )


def test_columns_are_renamed_and_constants_set() -> None:
    shape = Shape(
        "n", "feedback", {"item_id": "film", "value": "stars"}, {"kind": "rating", "session_id": "x"}
    )
    event = make(shape, {"film": 50, "stars": "4.5", "user_id": 196, "occurred_at": str(NOW)})
    assert isinstance(event, Feedback)
    assert (event.item_id, event.user_id, event.kind, event.value, event.session_id) == (
        "50",
        "196",
        "rating",
        4.5,
        "x",
    )


@pytest.mark.parametrize(
    ("unit", "value", "at_ms"),
    [
        ("ms", NOW, NOW),
        ("ms", str(NOW), NOW),
        ("s", NOW // 1000, NOW),
        ("s", f"{NOW // 1000}.25", NOW + 250),
        ("iso", "2025-06-15T15:06:40Z", NOW),
        ("iso", "2025-06-15 15:06:40", NOW),
        ("iso", "2025-06-15T17:06:40.500+02:00", NOW + 500),
        ("iso", "2025-06-15", NOW - NOW % DAY_MS),
        ("ms", datetime.fromtimestamp(NOW / 1000, UTC), NOW),
    ],
)
def test_times_are_read_in_the_unit_they_are_written_in(unit: Any, value: Any, at_ms: int) -> None:
    assert make(clicks(unit=unit), {**CLICK, "occurred_at": value}).occurred_at == at_ms


@pytest.mark.parametrize("value", ["yesterday", "", None, [], "1e999", float("inf"), "9" * 400, True, 1.5])
@pytest.mark.parametrize("unit", ["s", "ms", "iso"])
def test_a_time_that_cannot_be_is_refused_by_name(unit: Any, value: Any) -> None:
    with pytest.raises(Refusal) as refused:
        make(clicks(unit=unit), {**CLICK, "occurred_at": value})
    assert refused.value.field == "occurred_at"


def test_without_a_session_a_users_day_is_one() -> None:
    first, same, next_day = (
        make(clicks(), {"user_id": "u", "item_id": "i", "occurred_at": at})
        for at in (NOW - 3 * DAY_MS, NOW - 3 * DAY_MS + 1000, NOW - 2 * DAY_MS)
    )
    sessions = [event.session_id for event in (first, same, next_day) if isinstance(event, Click)]
    assert sessions[0] == sessions[1] != sessions[2]
    long = make(clicks(), {"user_id": "u" * 128, "item_id": "i", "occurred_at": NOW})
    assert isinstance(long, Click)


def test_a_text_of_items_is_a_slate_and_one_of_categories_a_list() -> None:
    shown = make(Shape("n", "impressions", {}, {"surface": "home"}), {**CLICK, "items": "a|b"})
    assert isinstance(shown, Impression)
    assert shown.items == [ShownItem("a", 0), ShownItem("b", 1)]
    columns = {"attributes.year": "year", "attributes.label": "label"}
    row = {"item_id": "i", "occurred_at": NOW, "categories": "x|y", "year": "1999", "label": "007"}
    item = make(Shape("n", "items", columns, {"attributes.shop": "berlin"}), {**row, "available": "no"})
    assert isinstance(item, Item)
    assert item.categories == ["x", "y"]
    assert item.attributes == {"year": 1999.0, "label": "007", "shop": "berlin"}
    assert item.available is False


def test_a_profile_needs_no_session() -> None:
    user = make(Shape("n", "users", {"attributes.age": "age"}), {"user_id": 5, "occurred_at": NOW, "age": 30})
    assert isinstance(user, User)
    assert (user.user_id, user.attributes) == ("5", {"age": 30})


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("clicks", {**CLICK, "item_id": ""}, "missing_field"),
        ("clicks", {"item_id": "i", "occurred_at": NOW}, "missing_field"),
        ("clicks", {**CLICK, "item_id": "x" * 129}, "out_of_bounds"),
        ("clicks", {**CLICK, "occurred_at": NOW + DAY_MS}, "clock_skew"),
        ("clicks", {**CLICK, "occurred_at": 1_700_000_000}, "out_of_bounds"),
        ("clicks", {**CLICK, "item_id": "\udcff"}, "malformed_json"),
        ("clicks", b"{", "malformed_json"),
        ("clicks", b"[1]", "malformed_json"),
        ("clicks", b'{"a": "\xff"}', "malformed_json"),
        ("clicks", b"[" * 100_000, "malformed_json"),
        ("feedback", {**CLICK, "kind": "applause"}, "unknown_feedback"),
        ("users", {"user_id": "u", "occurred_at": NOW, "erase": "true"}, "not_importable"),
        ("users", {"user_id": "u", "occurred_at": NOW, "merge_session": "s"}, "not_importable"),
        ("users", {"user_id": "s:u", "occurred_at": NOW}, "reserved_id"),
        ("users", {"user_id": "u", "occurred_at": NOW, "attributes": "red"}, "wrong_type"),
        ("items", {"item_id": "i", "occurred_at": NOW, "categories": 5}, "wrong_type"),
    ],
)
def test_a_row_that_cannot_be_taken_says_why(kind: str, row: Any, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        make(Shape("n", kind), row)
    assert refused.value.reason == reason


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from(["clicks", "feedback", "impressions", "items", "users"]),
    st.sampled_from(["s", "ms", "iso"]),
    st.dictionaries(
        st.sampled_from([*Item.__struct_fields__, *Feedback.__struct_fields__, "items", "attributes"]), VALUES
    ),
)
def test_no_row_does_anything_but_become_an_event_or_a_refusal(kind: str, unit: Any, row: Any) -> None:
    with contextlib.suppress(Refusal):
        assert make(Shape("n", kind, unit=unit), {**CLICK, **row}).producer == "import:n"


@pytest.mark.parametrize("field", ["colour", "decision", "attributes.x", "producer"])
def test_a_field_the_kind_has_not_is_refused(field: str) -> None:
    with pytest.raises(ShapeError, match="is none of clicks"):
        EventMaker(clicks(columns={field: "x"}), Settings())


def test_only_interactions_expire() -> None:
    old = NOW - 91 * DAY_MS
    assert is_expired(make(clicks(), {**CLICK, "occurred_at": old}), NOW)
    assert not is_expired(make(clicks(), {**CLICK, "occurred_at": old + 2 * DAY_MS}), NOW)
    assert not is_expired(make(Shape("n", "items"), {"item_id": "i", "occurred_at": old}), NOW)


ROWS = [{"item_id": f"i{n}", "user_id": "u", "occurred_at": str(NOW + n)} for n in range(3)]


def write(path: Path) -> Path:
    """Write the same rows in the format a name says."""
    name = path.name
    text = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    if ".csv" in name:
        text = "﻿item_id,user_id,occurred_at\r\n" + "".join(
            f'"{row["item_id"]}",u,{row["occurred_at"]}\r\n' for row in ROWS
        )
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        raw = text.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "A.JSONL.gz", "a.csv", "a.b.csv.gz", "a.parquet"])
def test_the_same_rows_come_out_of_every_format(tmp_path: Path, name: str) -> None:
    source = Source(write(tmp_path / name))
    found = [row for _, row in source.rows()]
    assert [msgspec.json.decode(row) if isinstance(row, bytes) else row for row in found] == ROWS
    assert source.position == source.size > 0


def refusals(rows: Iterator[tuple[int, Any]]) -> list[tuple[int, str]]:
    return [(line, row.reason) for line, row in rows if isinstance(row, Refusal)]


def test_a_line_that_is_too_long_or_a_row_of_too_many_columns_is_told_and_the_next_is_read(
    tmp_path: Path,
) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.csv"
    lines.write_bytes(b"{}\n" + b"x" * (LONGEST_LINE + 5) + b"\n{}\n")
    assert refusals(Source(lines).rows()) == [(2, "too_large")]
    assert [line for line, _ in Source(lines).rows()] == [1, 2, 3]
    table.write_text("a,b\n1,2,3\n" + "x" * (csv.field_size_limit() + 1) + ",2\n1,2\n")
    assert refusals(Source(table).rows()) == [(2, "malformed_csv"), (3, "malformed_csv")]
    assert list(Source(table).rows())[-1] == (4, {"a": "1", "b": "2"})


@pytest.mark.parametrize("name", ["a.txt", "a", "a.parquet.gz", ".gz"])
def test_a_name_that_says_no_format_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"says no format; wished: \.jsonl"):
        Source(tmp_path / name)


def test_parquet_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(SourceError, match=r"pip install 'headwater\[parquet\]'"):
        Source(tmp_path / "a.parquet")


@pytest.mark.parametrize("header", ["", "a,a\n"])
def test_columns_need_different_names(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(header)
    with pytest.raises(SourceError, match="a header row of different names"):
        list(Source(path).rows())


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.parquet"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(SourceError, match=r"cannot be read after (line|row) \d"):
        list(Source(path).rows())


def test_progress_comes_back_and_what_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    path = progress_path(tmp_path / "a.csv", "hw", "orders")
    assert read_progress(path) is None
    progress = Progress("f" * 16, 500, {0: 7, 3: 9}, {"sent": 480}, complete=False)
    write_progress(path, progress)
    assert read_progress(path) == progress
    path.write_bytes(b"")
    assert read_progress(path) is None


def fingerprint(shape: Shape, *paths: Path) -> Any:
    return list(fingerprint_of(shape, paths))[-1]


def test_a_fingerprint_tells_files_their_order_and_how_they_are_read_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    one.write_bytes(b"ab")
    other.write_bytes(b"c")
    prints = [
        fingerprint(clicks(), one, other),
        fingerprint(clicks(), other, one),
        fingerprint(clicks(), one),
        fingerprint(clicks(unit="s"), one, other),
        fingerprint(clicks(columns={"item_id": "x"}), one, other),
        fingerprint(Shape("other", "clicks"), one, other),
    ]
    assert len(set(prints)) == len(prints)
    renamed = one.rename(tmp_path / "3.jsonl")
    assert fingerprint(clicks(), renamed, other) == prints[0]
    other.write_bytes(b"d")
    assert fingerprint(clicks(), renamed, other) != prints[0]


def test_going_on_says_no_rejected_row_twice(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    first = Rejected(source, 0)
    for row in (2, 5, 9):
        first.add(row + 1, row, Refusal("wrong_type", "item_id", 5, "text"))
    first.close()
    with first.path.open("ab") as file:
        file.write(b'{"line": 1')  # cut off by a crash
    again = Rejected(source, 5)
    again.add(10, 9, Refusal("wrong_type", "item_id", 5, "text"))
    again.close()
    told = [msgspec.json.decode(line) for line in again.path.read_bytes().splitlines()]
    assert [(one["line"], one["row"]) for one in told] == [(3, 2), (6, 5), (10, 9)]
    assert (told[0]["reason"], told[0]["field"], told[0]["value"]) == ("wrong_type", "item_id", "5")
    Rejected(source, 0)
    assert not again.path.exists()


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["backfill", *words])


def test_a_dry_run_checks_every_row_and_needs_no_servers(tmp_path: Path) -> None:
    path, now = tmp_path / "a.jsonl", datetime.now(UTC).timestamp()
    days = [1, 2, 400, 3]
    rows = [{"user_id": "u", "item_id": "i", "occurred_at": now - day * 86_400} for day in days]
    rows[3]["item_id"] = ["i"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(str(path), "--kind", "clicks", "--name", "n", "--time-unit", "s", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "4 rows: 2 would be sent" in result.output
    assert "1 left out: interactions of more than 90 days ago" in result.output
    assert "1 wrong_type" in result.output
    (told,) = (tmp_path / "a.jsonl.rejected.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(told)["line"] == 4
    assert not list(tmp_path.glob("*.progress.json"))


def test_too_many_rejected_rows_end_the_import(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n" * 10)
    result = run(str(path), "--kind", "clicks", "--name", "n", "--dry-run", "--max-rejected", "3")
    assert result.exit_code == 1
    assert "more than 3 rows rejected, the last one in line 4: missing_field" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "Orders!"], "wished: 1 to 48 of a-z"),
        (["--name", "n", "--map", "item_id"], "wished: FIELD=COLUMN"),
        (["--name", "n", "--map", "item=x"], "field 'item' is none of clicks"),
        (["--name", "n"], "is not there"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_starts(
    tmp_path: Path, words: list[str], said: str
) -> None:
    result = run(str(tmp_path / "a.csv"), "--kind", "clicks", *words)
    assert result.exit_code in (1, 2)
    assert said in result.output
