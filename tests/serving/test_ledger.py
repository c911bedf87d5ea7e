"""The ledger of new items: which state each is in since when, from what all shards have folded."""

from serving.ledger import count_states, newcomers, read_ledger
from serving.metrics import ServerMetrics
from state.events import encode
from state.exploration import Explorations, Quota
from state.exploring import STRETCH_MS, Progress, Stretch
from state.feed import ExploringFeed
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


def test_a_server_knows_its_ledger_and_exports_it() -> None:
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
    metrics = ServerMetrics()
    metrics.note_ledger(answer)
    sample = metrics.registry.get_sample_value
    assert sample("headwater_new_items", {"surface": "home", "state": "graduated"}) == 1
    assert sample("headwater_exploration_cost", {"surface": "home"}) == 1.0


def test_a_surface_that_owes_nothing_has_no_ledger() -> None:
    live = empty()
    live.put_control("exploration/home", encode(Explorations(quota=None)))
    live.put_item(encode(item(1, published_at=PUBLISHED)))
    assert read_ledger(live, "home", NOW).items == []
