"""The ledger of new items: which state each is in since when, from what all shards have folded."""

import asyncio

from serving.ledger import (
    COUNTED_AT_ONCE,
    LedgerCounts,
    count_states,
    exploration_cost,
    newcomers,
    read_ledger,
)
from serving.metrics import ServerMetrics
from state.events import encode
from state.exploration import Explorations, Quota
from state.exploring import STRETCH_MS, Progress, Stretch
from state.feed import ExploringFeed, ItemFeed
from tests.serving.world import NOW, empty, item

HOUR_MS = 3_600_000
QUOTA = Quota(impressions=10, hours=24.0)
PUBLISHED = NOW - 2 * HOUR_MS


def states(progress: dict[str, list[Progress]], published: dict[str, int]) -> dict[str, tuple[str, int]]:
    found = newcomers(QUOTA, progress, published, NOW)
    return {one.item_id: (one.state, one.since) for one in found}


def test_each_item_is_new_exploring_graduated_or_retired_since_when() -> None:
    first, last = PUBLISHED + 1_000, PUBLISHED + 9_000
    progress = {
        "begun": [Progress(pending=1)],
        "met": [Progress(shown=3, first_at=first, last_at=last)],
        "done": [
            Progress(shown=6, first_at=first, last_at=first),
            Progress(shown=4, first_at=last, last_at=last),
        ],
        "late": [Progress(shown=9, first_at=first, last_at=last)],
    }
    old = NOW - 30 * HOUR_MS
    published = dict.fromkeys(("begun", "met", "done", "unmet"), PUBLISHED) | {"late": old}
    assert states(progress, published) == {
        "begun": ("exploring", PUBLISHED),
        "met": ("exploring", first),
        "done": ("graduated", last),
        "unmet": ("new", PUBLISHED),
        "late": ("retired", old + 24 * HOUR_MS),
    }


def test_impressions_and_rewards_of_all_shards_add_up() -> None:
    shards = [Progress(1, 3, 2, 1.5), Progress(2, 4, 1, 0.5)]
    (one,) = newcomers(QUOTA, {"a": shards}, {"a": PUBLISHED}, NOW)
    assert (one.impressions, one.exploratory, one.pending, one.rewards) == (7, 3, 3, 2.0)


async def test_a_server_knows_its_ledger_and_exports_it() -> None:
    live = empty()
    for number, at in ((1, PUBLISHED), (2, PUBLISHED), (3, NOW - 100 * HOUR_MS), (4, NOW - 100 * HOUR_MS)):
        live.put_item(encode(item(number, published_at=at)))
    live.put_control("exploration/home", encode(Explorations(quota=QUOTA, cost_per_hour=100.0)))
    spent = Stretch(20, 10, 100, 10.0, 10, 0.0)
    met = [
        ("home:i1", Progress(shown=10, last_at=NOW)),
        ("home:i3", Progress(shown=2)),
        ("cart:i2", Progress(1)),
    ]
    live.ledger.apply(0, ExploringFeed(met, [("home", NOW // STRETCH_MS, spent)]))
    answer = read_ledger(live, "home", NOW)
    assert answer.states == {"new": 1, "exploring": 0, "graduated": 1, "retired": 1}
    assert count_states(answer.items) == answer.states
    assert answer.cost_last_hour == 1.0
    counts, metrics = LedgerCounts(live), ServerMetrics()
    await counts.count(NOW)
    assert counts.states["home"] == answer.states
    metrics.note_exploration("home", counts.states["home"], exploration_cost(live, "home", NOW))
    sample = metrics.registry.get_sample_value
    assert sample("headwater_new_items", {"surface": "home", "state": "graduated"}) == 1
    assert sample("headwater_exploration_cost", {"surface": "home"}) == 1.0


def test_a_surface_that_owes_nothing_has_no_ledger() -> None:
    live = empty()
    live.put_control("exploration/home", encode(Explorations(quota=None)))
    live.put_item(encode(item(1, published_at=PUBLISHED)))
    assert read_ledger(live, "home", NOW).items == []


async def test_items_that_left_the_catalogue_are_in_no_ledger() -> None:
    live = empty()
    live.put_control("exploration/home", encode(Explorations(quota=Quota(10, 24.0))))
    for number in (1, 2):
        live.put_item(encode(item(number, published_at=PUBLISHED)))
    live.ledger.apply(0, ExploringFeed([("home:i1", Progress(shown=2)), ("home:i2", Progress(shown=2))]))
    live.apply_items(ItemFeed([("i2", None)]))
    counts = LedgerCounts(live)
    await counts.count(NOW)
    assert counts.states["home"]["exploring"] == 1
    assert [one.item_id for one in read_ledger(live, "home", NOW).items] == ["i1"]


async def test_counting_lets_requests_through() -> None:
    live = empty()
    live.put_control("exploration/home", encode(Explorations(quota=Quota(10, 24.0))))
    names = [f"home:i{number}" for number in range(3 * COUNTED_AT_ONCE)]
    live.ledger.apply(0, ExploringFeed([(name, Progress(shown=1)) for name in names]))
    turns, counting = 0, asyncio.create_task(LedgerCounts(live).count(NOW))
    while not counting.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 3
