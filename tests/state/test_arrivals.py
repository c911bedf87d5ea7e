"""Every message of an outbox counts once, though batches fail, arrive late and are sent again."""

from hypothesis import given
from hypothesis import strategies as st

from state.outbox import SENT_AT_ONCE, Arrivals, Message, next_batch


@given(st.lists(st.integers(1, 3 * SENT_AT_ONCE), max_size=60), st.booleans())
def test_a_number_is_new_once_however_often_it_arrives(numbers: list[int], stored: bool) -> None:
    arrivals, seen = Arrivals(), set()
    for number in numbers:
        recent = number > arrivals.highest - SENT_AT_ONCE
        assert arrivals.is_new(number) == (recent and number not in seen) or not recent
        assert not arrivals.is_new(number)
        seen.add(number)
        if stored:
            arrivals = Arrivals(arrivals.encode())


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=20),
    st.integers(1, SENT_AT_ONCE // 12),
    st.data(),
)
def test_what_fails_while_later_batches_arrive_is_taken_when_it_is_sent_again(
    calls: list[list[bool]], batch: int, data: st.DataObject
) -> None:
    arrivals, taken, first = Arrivals(), [], 1
    for outcomes in calls:  # one call: batches of numbers, each of which arrives or fails; then all again
        batches = [range(first + n * batch, first + (n + 1) * batch) for n in range(len(outcomes))]
        for numbers, arrives in zip(batches, outcomes, strict=True):
            if arrives:
                taken += [n for n in numbers if arrivals.is_new(n)]
        again = data.draw(st.permutations(batches))
        taken += [n for numbers in again for n in numbers if arrivals.is_new(n)]
        first += len(outcomes) * batch
    assert sorted(taken) == list(range(1, first))


def test_what_carries_no_number_is_never_new() -> None:
    assert not Arrivals().is_new(0)
    assert not Arrivals("5:1").is_new(-3)


@given(st.lists(st.integers(1, 400), max_size=6), st.lists(st.integers(0, 10**12), min_size=6, max_size=6))
def test_what_was_derived_before_a_claim_arrives_before_what_comes_after_is_sent(
    counts: list[int], jumps: list[int]
) -> None:
    arrivals, unsent, last = Arrivals(), [], 0
    for count, jump in zip(counts, jumps, strict=False):
        unsent += [Message(last + jump + n, "outcomes", None, b"") for n in range(1, count + 1)]
        last += jump + count
    while unsent:
        batch = next_batch(unsent)
        assert batch == unsent[: len(batch)]
        assert len(batch) <= SENT_AT_ONCE
        assert all(arrivals.is_new(message.number) for message in reversed(batch))
        unsent = unsent[len(batch) :]
