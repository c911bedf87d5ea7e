"""What must never be shown is not shown while catalogue, visitors and rules change: a long run, cut short."""

from benchmarks._exclusions_facts import Asked, Facts, Spell
from benchmarks.exclusions import measure
from headwater.embedded import EmbeddedRuntime

SECONDS = 6.0


async def test_nothing_is_shown_after_it_was_known_not_to_be_whatever_the_race(
    runtime: EmbeddedRuntime,
) -> None:
    figures = await measure(runtime, SECONDS)
    assert figures["by_reason"] == {}
    assert figures["answers"] > 20
    assert figures["changes"]["did change an item"] > 5


def test_the_checker_knows_a_violation_when_it_sees_one() -> None:
    facts = Facts(
        spells={
            "gone": [Spell(False, 1.0, 0, 0, until=10), Spell(True, 1.0, 10, 20)],
            "dear": [Spell(False, 1.0, 0, 0, until=10), Spell(False, 9.0, 10, 20)],
            "fine": [Spell(False, 1.0, 0, 0)],
        }
    )
    facts.met["ana"]["fine"] = (50, "hide by the visitor")
    facts.hiding[0].append(["jazz", 30, 60])
    genres = {"gone": "drama", "dear": "drama", "fine": "jazz"}

    def found(item_id: str, sent_at: int, as_of: int, **more: object) -> list[str]:
        asked = Asked(0, "ana", sent_at, sent_at + 1, as_of, [item_id], **more)  # type: ignore[arg-type]
        return [*facts.violations(asked, genres)]

    assert found("gone", 25, 20) == ["removed or not available"]
    assert found("gone", 25, 19) == []
    assert found("dear", 25, 20, most=5.0) == ["does not pass the filter"]
    assert found("dear", 25, 19, most=5.0) == []
    assert found("fine", 70, 70) == ["hide by the visitor"]
    assert found("fine", 40, 40) == ["hidden by a rule"]
    assert found("fine", 20, 20) == []
    assert found("fine", 20, 20, barred=frozenset(["fine"])) == ["barred by the request"]
