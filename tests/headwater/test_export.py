"""An export holds what the topics hold, once, and goes on where it ended."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from headwater.cli import main
from headwater.embedded import EmbeddedRuntime
from headwater.export import Tally, Wish, run_export
from headwater.export_files import ExportError, Manifest, PartitionFile, check_folder, next_offset
from headwater.export_rows import DECODERS, schemas
from headwater.population import BEGIN_MS, Population, decisions
from state.events import Decision, Outcome, OutcomeSlot, Versions, encode
from state.packing import to_base64
from state.settings import Settings
from state.topics import create_topics, topic_name, topic_specs

PEOPLE = Population(50, 40, 10, 10, candidates=12, slots=3)


def logged(count: int, first: int = 0) -> list[Decision]:
    made = decisions(PEOPLE, range(first, first + count))
    return [msgspec.structs.replace(d, occurred_at=BEGIN_MS + n) for n, d in enumerate(made, first)]


def closed(decision: Decision) -> Outcome:
    slots = [OutcomeSlot(s.item_id, n, float(n == 1), s.propensity) for n, s in enumerate(decision.slots)]
    return Outcome(
        event_id=decision.event_id, occurred_at=decision.occurred_at + 600_000, subject=decision.subject,
        surface="home", lane=0, shown_at=decision.occurred_at + 5, slots=slots, features=decision.features,
        logits=decision.logits, versions=decision.versions, rung="personal",
    )  # fmt: skip


@pytest.fixture
async def settings(runtime: EmbeddedRuntime, namespace: str) -> Settings:
    await create_topics(runtime.kafka, topic_specs(namespace, shards=2))
    return Settings(namespace=namespace, kafka=runtime.kafka, redis=runtime.redis, shards=2)


async def publish(settings: Settings, kind: str, values: Sequence[bytes], partition: int = 0) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for value in values:
            await producer.send_and_wait(topic_name(settings.namespace, kind), value, partition=partition)


def parts(into: Path) -> list[Path]:
    return list(into.rglob("*.part"))


def rows(into: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted((into / kind).glob("*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


async def test_decisions_and_outcomes_come_back_as_they_were_logged(
    settings: Settings, tmp_path: Path
) -> None:
    made = logged(5)
    await publish(settings, "decisions", [encode(d) for d in made[:3]], 0)
    await publish(settings, "decisions", [encode(d) for d in made[3:]], 1)
    await publish(settings, "outcomes", [encode(closed(made[0]))])
    tallies = await run_export(settings, Wish(tmp_path))
    assert (tallies["decisions"].rows, tallies["outcomes"].rows) == (5, 1)
    held = {row["decision_id"]: row for row in rows(tmp_path, "decisions")}
    for decision in made:
        row = held[decision.event_id]
        assert row["occurred_at"].timestamp() * 1000 == decision.occurred_at
        assert (row["subject"], row["seed"]) == (decision.subject, str(decision.seed))
        assert row["scores"] == np.frombuffer(base64.b64decode(decision.candidates.scores)).tolist()
        assert [s["propensity"] for s in row["slots"]] == [s.propensity for s in decision.slots]
        assert row["candidates"] == decision.candidates.item_ids
    (outcome,) = rows(tmp_path, "outcomes")
    assert [slot["reward"] for slot in outcome["slots"]] == [0.0, 1.0, 0.0]
    assert outcome["features"] == held[outcome["decision_id"]]["features"]


async def test_a_second_run_adds_only_what_has_come_since(settings: Settings, tmp_path: Path) -> None:
    await publish(settings, "decisions", [encode(d) for d in logged(7)])
    assert (await run_export(settings, Wish(tmp_path, rows_a_file=3)))["decisions"] == Tally(7, 3)
    assert (await run_export(settings, Wish(tmp_path, rows_a_file=3)))["decisions"] == Tally()
    await publish(settings, "decisions", [encode(d) for d in logged(2, first=7)])
    assert (await run_export(settings, Wish(tmp_path, rows_a_file=3)))["decisions"] == Tally(2, 1)
    held = rows(tmp_path, "decisions")
    assert [row["offset"] for row in held] == list(range(9))
    assert len({row["decision_id"] for row in held}) == 9


async def test_a_run_that_dies_leaves_whole_files_and_is_taken_up(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(settings, "decisions", [encode(d) for d in logged(8)])
    whole, died = DECODERS["decisions"], 0

    def dies_once(raw: bytes) -> dict[str, Any]:
        nonlocal died
        died += 1
        if died == 6:
            raise RuntimeError("died")
        return whole[0](raw)

    monkeypatch.setitem(DECODERS, "decisions", (dies_once, whole[1]))
    with pytest.raises(RuntimeError, match="died"):
        await run_export(settings, Wish(tmp_path, rows_a_file=2))
    assert [row["offset"] for row in rows(tmp_path, "decisions")] == [0, 1, 2, 3]
    await run_export(settings, Wish(tmp_path, rows_a_file=2))
    assert [row["offset"] for row in rows(tmp_path, "decisions")] == list(range(8))
    assert not parts(tmp_path)


async def test_only_the_asked_time_is_exported(settings: Settings, tmp_path: Path) -> None:
    await publish(settings, "decisions", [encode(d) for d in logged(9)])
    tallies = await run_export(settings, Wish(tmp_path, since=BEGIN_MS + 2, until=BEGIN_MS + 5))
    assert tallies["decisions"].rows == 3
    assert [row["offset"] for row in rows(tmp_path, "decisions")] == [2, 3, 4]


async def test_what_was_sent_twice_is_exported_once_and_garbage_is_counted(
    settings: Settings, tmp_path: Path
) -> None:
    raws = [encode(d) for d in logged(3)]
    broken = msgspec.json.encode(msgspec.json.decode(raws[0]) | {"context": "no base64"})
    await publish(settings, "decisions", [raws[0], raws[1], raws[0], b"\xff{", broken, b"{}", raws[2]])
    assert (await run_export(settings, Wish(tmp_path)))["decisions"] == Tally(3, 1, 1, 3)


async def test_another_export_is_not_mixed_into_a_folder(settings: Settings, tmp_path: Path) -> None:
    await run_export(settings, Wish(tmp_path))
    with pytest.raises(ExportError, match="with since 0; wished: 5, or another folder"):
        await run_export(settings, Wish(tmp_path, since=5))


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("{")
    with pytest.raises(ExportError, match=r"export\.json cannot be read"):
        check_folder(tmp_path, Manifest("hw", 0, 1))


def test_files_of_other_partitions_do_not_move_the_offset(tmp_path: Path) -> None:
    schema = schemas()["outcomes"]
    PartitionFile(tmp_path, 3, schema, 10).keep(19)
    PartitionFile(tmp_path, 3, schema, 20).drop()
    assert [next_offset(tmp_path, partition) for partition in (2, 3)] == [0, 20]


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--since", "yesterday"), "'yesterday' is no time"), (("--rows-a-file", "0"), "rows-a-file")],
)
def test_a_bad_option_is_refused(tmp_path: Path, words: tuple[str, str], said: str) -> None:
    result = CliRunner().invoke(main, ["export", "--into", str(tmp_path), *words])
    assert (result.exit_code, said in result.output) == (2, True)


def test_without_pyarrow_the_command_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = CliRunner().invoke(main, ["export", "--into", str(tmp_path)])
    assert (result.exit_code, "pip install headwater[parquet]" in result.output) == (1, True)


def test_a_broker_that_is_away_ends_the_command_in_one_line(tmp_path: Path) -> None:
    environment = {"HEADWATER_KAFKA": "127.0.0.1:1"}
    result = CliRunner().invoke(main, ["export", "--into", str(tmp_path)], env=environment)
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output


def test_every_column_is_documented() -> None:
    text = Path("docs/export.md").read_text(encoding="utf-8")
    for schema in schemas().values():
        assert [name for name in schema.names if f"`{name}`" not in text] == []


def test_versions_and_arrays_survive_one_outcome(tmp_path: Path) -> None:
    outcome = msgspec.structs.replace(
        closed(logged(1)[0]), versions=Versions("p", 4, 5, "f"), logits=to_base64(np.array([0.1, -2.0, 3.0]))
    )
    row = DECODERS["outcomes"][0](encode(outcome))
    file = PartitionFile(tmp_path, 0, schemas()["outcomes"], 0)
    file.add(row | {"partition": 0, "offset": 0})
    (held,) = pq.read_table(file.keep(0)).to_pylist()
    names = ("policy", "model_version", "exploration_version", "feature_version")
    assert tuple(held[name] for name in names) == ("p", 4, 5, "f")
    assert held["logits"] == [0.1, -2.0, 3.0]
