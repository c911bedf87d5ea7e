"""What an interaction adds to statistics that all subjects of a shard share: trends and sessions."""

from state.feed import Interaction, ShardFeed
from state.subject import SubjectRecord
from stream.effects import Effects
from stream.sessions import Sessions
from stream.shared import ShardTrends


class SharedStatistics:
    """Counts interactions once each, and tells servers of them.

    Parameters
    ----------
    trends, sessions
        Of the shard.
    """

    def __init__(self, trends: ShardTrends, sessions: Sessions) -> None:
        self._trends, self._sessions = trends, sessions

    def begin(self, effects: Effects, feed: ShardFeed) -> None:
        """Begin a micro-batch."""
        self._effects, self._feed = effects, feed

    def count(self, record: SubjectRecord, step: Interaction) -> None:
        """Count what happened now."""
        self._feed.dropped_sessions += self._sessions.add(step, self._effects)
        self._feed.interactions.append(step)
        self._index(record, step)

    def insert(self, record: SubjectRecord, step: Interaction | None) -> None:
        """Count what an import tells, where its time says, if it counts at all."""
        if step is None:
            return
        self._feed.dropped_sessions += self._sessions.insert(step, self._effects)
        self._feed.history.append(step)
        self._index(record, step)

    def _index(self, record: SubjectRecord, step: Interaction) -> None:
        self._trends.count(step)
        for session in record.add_session(step.session):
            if self._sessions.remove(session, self._effects):
                self._feed.dropped_sessions.append(session)
