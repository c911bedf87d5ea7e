"""What the counts of a producer mean, in words a person understands."""

from collections.abc import Iterator

from msgspec import Struct

from state.producers import OTHERS, UNNAMED, Tally, tamed

SOME = 0.01
"""Share of events from which on late and repeated ones are worth a word; below it is ordinary."""
SOME_UNKNOWN = 0.02
CLOCK_AHEAD_MS = 60_000
SILENT_MS = 3_600_000
ENOUGH_CLICKS = 20
_UNITS = ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


class Unknown(Struct, frozen=True):
    """How many items a producer named, how many of them are not in the catalogue, and some of those."""

    named: int
    unknown: int
    examples: list[str]


class Verdict(Struct, frozen=True):
    """Whether there is nothing to mend, and why."""

    healthy: bool
    text: str


def judge(name: str, recent: Tally, total: Tally, seen: tuple[Unknown, int, int]) -> Verdict:
    """Return a verdict on the recent counts, or on all where there are none.

    Parameters
    ----------
    name
        Of the producer.
    recent, total
        Counts of this hour and the one before; of all time.
    seen
        Its items, when it was last heard of and the present (ms).
    """
    items, seen_at, now_ms = seen
    judged = recent if recent.arrived else total
    found = [*_problems(judged, items)]
    parts = found or [_praise(judged)]
    if judged is recent and not recent.refused and total.refused:
        parts.append(f"before that {total.refused:,} were refused")
    if now_ms - seen_at > SILENT_MS:
        parts.insert(0, f"silent for {span(now_ms - seen_at)}")
    parts += _hints(name)
    return Verdict(not found, "; ".join(parts))


def _praise(tally: Tally) -> str:
    return f"healthy: {tally.arrived:,} events, nothing refused"


def _hints(name: str) -> Iterator[str]:
    if name == UNNAMED:
        yield "to tell producers apart, set the field producer or the Kafka header hw-producer"
    if name == OTHERS:
        yield "all producers beyond the first 200 together"


def _problems(tally: Tally, items: Unknown) -> Iterator[str]:
    arrived = tally.arrived
    if tally.refused:
        yield f"{_share(tally.refused, arrived)} refused, most: {_most(tally)}"
    if tally.misrouted:
        yield (
            f"{_share(tally.misrouted, arrived)} sent to the wrong partition: its partitioner "
            "is not murmur2; events are forwarded"
        )
    if items.unknown > SOME_UNKNOWN * items.named:
        examples = ", ".join(map(tamed, items.examples[:2]))
        yield f"{_share(items.unknown, items.named)} of its items are not in the catalogue, e.g. {examples}"
    if tally.lead_ms > CLOCK_AHEAD_MS:
        yield f"its clock is up to {span(tally.lead_ms)} ahead of the broker's"
    if tally.late > SOME * arrived:
        yield f"{_share(tally.late, arrived)} late, up to {span(tally.lag_ms)}: they have no effect"
    if tally.duplicate > SOME * arrived:
        yield f"{_share(tally.duplicate, arrived)} sent again under the same event_id: they count once"
    clicks = tally.events.get("clicks", 0)
    if clicks >= ENOUGH_CLICKS and tally.unattributed >= clicks:
        yield f"none of {clicks:,} clicks carries a decision token: none rewards a recommendation"


def _most(tally: Tally) -> str:
    most = max(tally.refusals, key=lambda one: one.count)
    if most.reason == OTHERS:
        return "many different mistakes"
    value = f" has value {tamed(most.value)}" if most.value else ""
    return f"{most.reason} {most.field}{value} ({most.kind}); wished: {tamed(most.wished)}"


def _share(count: int, of: int) -> str:
    percent = 100 * count / max(1, of)
    return "less than 0.1 %" if percent < 0.1 else f"{min(percent, 100.0):.3g} %"


def span(ms: int) -> str:
    """Return a time span in its largest fitting unit."""
    size, name = next(((size, name) for size, name in _UNITS if ms >= 2 * size), (1, "ms"))
    return f"{ms // size} {name}"
