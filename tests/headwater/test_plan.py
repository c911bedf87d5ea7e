"""The plan answers from the codecs themselves, and a folded shard needs what it says."""

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.memory import measure, population, settings_of
from headwater.cli import main
from headwater.embedded import EmbeddedStore
from headwater.population import BEGIN_MS, Population, decisions, visitors
from headwater.sizing import expected_pairs, plan
from state.events import Click, encode
from state.packing import to_base64
from state.retention import retention
from state.settings import Settings
from state.store_memory import LAYOUTS
from state.subject import encode_subject
from stream.rows import Row, decode_row
from tests.stream.folding import AT, row, shard
from tests.stream.test_evidence import lane as evidence_lane
from tests.stream.test_evidence import outcome

WORDS = ("--users", "1000", "--items", "100", "--sessions", "500")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["plan", *words])


def test_a_plan_names_every_family_and_the_shards() -> None:
    result = run(*WORDS, "--json")
    assert result.exit_code == 0
    told = msgspec.json.decode(result.output)
    assert told["total"] == pytest.approx(sum(f["total"] for f in told["families"].values()), rel=1e-3)
    assert {"bytes_per_user", "bytes_per_item", "bytes_per_session", "suggested_shards"} <= set(told)
    assert "subject" in run(*WORDS).output


SMALL = {
    "meta", "hold", "erased", "redriven", "attribution", "producers", "item_times", "decisions_of",
}  # fmt: skip
"""A few numbers a unit, or what a population cannot tell: erasures, re-drives, removals, long indexes."""


def test_every_key_family_of_the_store_is_planned_or_small() -> None:
    told = plan(Population(1000, 100, 500, 1000), Settings(), LAYOUTS["valkey"])
    assert {row.name for row in retention() if row.where == "key"} - SMALL == {f.name for f in told.families}
    assert all(family.total > 0 for family in told.families)


def test_what_is_summed_up_of_surfaces_is_as_long_as_it_is_planned() -> None:
    lane, rng = evidence_lane(), np.random.default_rng(2)
    weights = [to_base64(1.0 + rng.random(3)) for _ in range(300)]
    lane.fold([outcome(n + 1, shadows={"wide@1": one}) for n, one in enumerate(weights)], AT)
    (held,) = lane.hash("scoreboard").values()
    people = Population(1000, 100, 500, 1000)
    told = plan(people, Settings(), LAYOUTS["valkey"]).family("scoreboard")
    assert told.each == pytest.approx(len(held), rel=0.2)


@pytest.mark.parametrize("words", [("--users", "-1"), ("--interactions", "0"), ("--store", "disk")])
def test_a_count_out_of_bounds_is_refused(words: tuple[str, str]) -> None:
    assert run(*WORDS, *words).exit_code == 2


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_nothing_needs_nothing(layout: str) -> None:
    told = plan(Population(0, 0, 0, 0), Settings(), LAYOUTS[layout])
    of_surfaces = {"models", "model_shadows", "model_versions", "lifecycle", "control", "history", "audit"}
    assert {f.name for f in told.families if f.total} <= of_surfaces | {"counters"}


def test_twice_the_decisions_need_twice_the_memory_and_more_shards() -> None:
    one, two = (
        plan(Population(10**6, 10**5, 10**5, n), Settings(), LAYOUTS["valkey"]) for n in (10**8, 2 * 10**8)
    )
    assert two.family("decision").total == pytest.approx(2 * one.family("decision").total, rel=0.02)
    assert two.shards > one.shards >= 8


def test_sessions_are_counted_up_to_their_cap() -> None:
    told = plan(Population(10, 10, 10**6, 10), Settings(max_sessions=5_000), LAYOUTS["valkey"])
    assert told.family("sessions").count == 5_000


def test_pairs_of_items_and_shards_are_as_many_as_are_drawn() -> None:
    rng = np.random.default_rng(3)
    from headwater.population import draw

    met = {(int(a), int(b)) for a, b in zip(draw(rng, 500, 4_000), rng.integers(4, size=4_000), strict=True)}
    assert expected_pairs(500, 4_000, 4) == pytest.approx(len(met), rel=0.05)
    assert expected_pairs(500, 10**9, 4) == 2_000


def test_a_population_has_the_records_that_folding_its_events_makes() -> None:
    people, settings = Population(40, 200, 40, 10), Settings()
    for one in visitors(people, settings, range(0, 40, 2)):  # those the policy has learnt nothing of
        folded = shard()
        for n, (item, at) in enumerate(zip(one.record.recent, one.record.recent_at, strict=True)):
            session = f"session-{one.subject}-{n // 5}"
            event = Click(
                event_id=f"{n}", occurred_at=at, session_id=session, user_id=one.subject, item_id=item
            )
            folded.fold([row("clicks", event)], at - settings.lateness_ms)
        record = folded.record(one.subject)
        assert (record.recent, record.session_items) == (one.record.recent, one.record.session_items)
        assert (record.seen, record.counted) == (one.record.seen, one.record.counted)
        assert abs(len(encode_subject(record)) - len(encode_subject(one.record))) <= 16 * 16


def test_a_population_logs_decisions_that_a_shard_folds() -> None:
    (decision,) = decisions(Population(10, 50, 10, 10), range(1))
    read = decode_row(Row("decisions", 0, 0, BEGIN_MS, b"k", encode(decision)), (), 300_000)
    assert read.event == decision


@pytest.mark.integration
async def test_a_real_store_needs_what_the_plan_says() -> None:
    with EmbeddedStore() as store:
        people = population(4_000, seed=5)
        told = await measure(people, settings_of(people, store.unix_url), "valkey")
    assert told["max_relative_error"] < 0.1, told["families"]
