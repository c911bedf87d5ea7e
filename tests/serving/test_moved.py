from serving.moved import EVERY_S, MovedItems
from tests.serving.test_live import clicks, with_films


def test_one_item_that_clicks_have_moved_is_settled_each_time_it_is_due() -> None:
    live = with_films()
    clicks(live, 2)
    waiting, moved = live.settle_moved(0), MovedItems(live)
    for due in (1, 2, 3):
        moved.tick(7.0 + due * EVERY_S)
        moved.tick(7.0 + (due + 0.9) * EVERY_S)
        assert live.settle_moved(0) == waiting - due
