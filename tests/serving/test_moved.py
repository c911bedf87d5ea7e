from serving.moved import AT_ONCE_S, SHARE, MovedItems
from tests.serving.test_live import clicks, with_films


class Time:
    """A clock, and a thread in which every item takes two milliseconds."""

    def __init__(self) -> None:
        self.now_s, self._asked = 5.0, 0

    def clock(self) -> float:
        return self.now_s

    def work(self) -> float:
        self._asked += 1
        return 0.002 * (self._asked // 2)


def test_what_clicks_have_moved_is_settled_in_its_share_of_the_time() -> None:
    live, time = with_films(), Time()
    clicks(live, 4)
    moved, waiting = MovedItems(live, time.clock, time.work), live.settle_moved(0)
    settled = []
    for passed_s in (0.0, 0.002 / SHARE, 0.0, 0.001 / SHARE, 0.0, 0.002 / SHARE, 3600.0):
        time.now_s += passed_s
        moved.tick()
        settled.append(waiting - (waiting := live.settle_moved(0)))
    assert settled == [0, 1, 0, 1, 0, 1, 2], AT_ONCE_S


def test_nothing_is_looked_for_where_nothing_waits() -> None:
    live, time = with_films(), Time()
    moved = MovedItems(live, time.clock, time.work)
    time.now_s += 60.0
    moved.tick()
    moved.tick()
    assert live.settle_moved(0) == 0
