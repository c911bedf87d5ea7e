"""Until when feeds are known to be read: never later than what is applied, however late an answer is met."""

from serving.following import BLOCK_MS, COUNT, ReadTo

BLOCK = BLOCK_MS / 1000


def test_an_answer_counts_from_when_it_was_asked_and_only_once_it_is_applied() -> None:
    read = ReadTo()
    assert read.known == 0.0
    read.ask(10.0)
    read.answer(3)
    assert read.known == 0.0  # met, and not applied yet
    read.ask(11.0)
    assert read.known == 10.0


def test_silence_counts_from_when_the_store_had_waited() -> None:
    read = ReadTo()
    read.ask(10.0)
    read.answer(0)
    read.ask(10.5)
    assert read.known == 10.0 + BLOCK


def test_an_answer_that_may_not_be_all_there_is_tells_nothing() -> None:
    read = ReadTo()
    read.set(5.0)
    read.ask(10.0)
    read.answer(COUNT)
    read.ask(11.0)
    assert read.known == 5.0
    read.answer(COUNT - 1)
    read.ask(12.0)
    assert read.known == 11.0


def test_a_load_is_as_old_as_its_beginning_and_what_is_known_never_goes_back() -> None:
    read = ReadTo()
    read.set(20.0)
    assert read.known == 20.0
    read.ask(19.0)
    read.answer(1)
    read.ask(21.0)
    assert read.known == 20.0
