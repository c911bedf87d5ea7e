"""How far event time is complete in one shard."""

from collections.abc import Iterable, Mapping

from msgspec import Struct, field


class Progress(Struct):
    """What a watermark remembers across restarts: newest time by topic kind, and the watermark itself."""

    times: dict[str, int] = field(default_factory=dict)
    watermark: int = 0


class Watermark:
    """Watermark of a shard: the minimum over its topic-partitions, less the lateness bound.

    A topic-partition read to its end holds the watermark back no further than when the broker said so; one
    with lag always does.
    When all are read to their ends, time goes on as the clock does, counted from when they were,
    so that windows close although nobody sends anything.

    Parameters
    ----------
    kinds
        Topic kinds of the shard.
    lateness_ms
        How late an event may be.
    progress
        As left by an earlier owner.
    steps
        How far it moves at once, ms, and where its steps begin.
    """

    def __init__(
        self,
        kinds: Iterable[str],
        lateness_ms: int,
        progress: Progress | None = None,
        steps: tuple[int, int] = (1, 0),
    ) -> None:
        self.progress = progress or Progress()
        self._kinds = frozenset(kinds)
        self._lateness_ms = lateness_ms
        self._step_ms, self._first_ms = steps
        self._complete = self.progress.watermark
        self._quiet_since: int | None = None
        self._quiet_from = 0

    @property
    def value(self) -> int:
        """Event time up to which the shard is complete, ms."""
        return self.progress.watermark

    def observe(self, kind: str, occurred_at: int, received_at: int) -> None:
        """Take in one record; no event moves time past its record's Kafka timestamp."""
        at = min(occurred_at, received_at)
        if at > self.progress.times.get(kind, 0):
            self.progress.times[kind] = at
        self._quiet_since = None

    def advance(self, caught_up: Mapping[str, int]) -> int:
        """Return the watermark after what was observed; it never goes back.

        Parameters
        ----------
        caught_up
            Topic kinds read to their ends -> when the broker last said so, ms.
        """
        times = self.progress.times
        newest = max(times.values(), default=0)
        lagging = [times.get(kind, 0) for kind in self._kinds if kind not in caught_up]
        # Nothing is known of what came after the broker last said that there was no more.
        known = [max(times.get(kind, 0), said_at) for kind, said_at in caught_up.items()]
        if lagging:
            self._quiet_since = None
            reached = min(lagging)
        else:
            reached = self._passed(newest, min(caught_up.values())) if newest else 0
        reached = min([reached, *known])
        self._complete = complete = max(self._complete, reached - self._lateness_ms)
        self.progress.watermark = max(
            self.progress.watermark, complete - (complete - self._first_ms) % self._step_ms
        )
        return self.progress.watermark

    def _passed(self, newest: int, said_at: int) -> int:
        """Return where the clock has carried time to since all topic-partitions were first at their ends."""
        if self._quiet_since is None:
            # Time already granted to a silence before is not waited for again: not after a restart, nor after
            # an event that was under way meanwhile.
            self._quiet_since = said_at
            self._quiet_from = max(newest, self._complete + self._lateness_ms)
        return self._quiet_from + (said_at - self._quiet_since)
