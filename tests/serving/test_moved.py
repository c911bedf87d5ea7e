from collections.abc import Iterator

from serving.moved import SHARE, MovedItems
from tests.serving.test_live import clicks, with_films


def test_an_item_that_clicks_have_moved_is_settled_when_its_share_of_time_is_due() -> None:
    live, times = with_films(), [0.0, 0.5, 0.6, 0.4 / SHARE, 0.5 / SHARE, 0.5 / SHARE + 0.001]
    clicks(live, 2)
    told: Iterator[float] = iter(times)
    waiting, moved = live.settle_moved(0), MovedItems(live, lambda: next(told))
    left = []
    for _ in range(4):
        moved.tick()
        left.append(waiting - live.settle_moved(0))
    assert left == [1, 1, 1, 2]
    assert list(told) == []
