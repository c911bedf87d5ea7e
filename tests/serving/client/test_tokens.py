"""Which events an answer is asked to contain."""

from hypothesis import given
from hypothesis import strategies as st

from serving.after import read_after
from serving.client.tokens import Tokens


def test_of_each_topic_the_last_place_is_asked_for() -> None:
    tokens = Tokens()
    for token in ("hw.clicks/3/7", "hw.feedback/3/1", "hw.clicks/3/9", "hw.clicks/3/8"):
        tokens.note("ann", token, 0.0)
    assert tokens.after("ann", 1.0) == "hw.clicks/3/9,hw.feedback/3/1"
    assert tokens.after("bob", 1.0) is None


def test_what_an_answer_contained_is_not_asked_for_again() -> None:
    tokens = Tokens()
    tokens.note("ann", "hw.clicks/3/7", 0.0)
    tokens.settle("ann", "hw.clicks/3/7", 0.0)
    assert tokens.after("ann", 0.0) is None


def test_what_came_meanwhile_is_still_asked_for() -> None:
    tokens = Tokens()
    tokens.note("ann", "hw.clicks/3/7", 0.0)
    tokens.note("ann", "hw.clicks/3/8", 0.0)
    tokens.settle("ann", "hw.clicks/3/7", 0.0)
    assert tokens.after("ann", 0.0) == "hw.clicks/3/8"


def test_an_old_token_and_a_strange_one_are_of_no_use() -> None:
    tokens = Tokens(life_s=5.0)
    for token in ("", "e1", "/7", "hw.clicks/3/x"):
        tokens.note("ann", token, 0.0)
    assert tokens.after("ann", 0.0) is None
    tokens.note("ann", "hw.clicks/3/7", 0.0)
    assert tokens.after("ann", 5.1) is None
    tokens.note("ann", "hw.feedback/3/1", 6.0)
    assert tokens.after("ann", 6.0) == "hw.feedback/3/1"


def test_the_longest_silent_are_forgotten() -> None:
    tokens = Tokens(subjects=2)
    for name in ("ann", "bob", "ann", "eve"):
        tokens.note(name, "hw.clicks/0/1", 0.0)
    assert len(tokens) == 2
    assert tokens.after("bob", 0.0) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["clicks", "feedback", "impressions", "users"]), st.integers(0, 10**12)),
        min_size=1,
    )
)
def test_the_server_understands_what_is_asked_for(noted: list[tuple[str, int]]) -> None:
    tokens = Tokens()
    for kind, offset in noted:
        tokens.note("ann", f"shop.{kind}/5/{offset}", 0.0)
    asked = tokens.after("ann", 0.0)
    assert asked is not None
    assert len(asked) <= 512
    highest = {kind: max(offset for k, offset in noted if k == kind) for kind, _ in noted}
    assert {(kind, offset) for kind, _, offset in read_after(asked, "shop").places} == set(highest.items())
