"""The recommender that serves, as a model on trial: the same class, asked and taught in the same order."""

from headwater.evaluation.clicks import Click, Clicks
from headwater.evaluation.trial import Query
from online_models.arrays import IntArray
from online_models.retrieval import Recommender, RecommenderSettings


class Engine:
    """The product's recommender.

    Parameters
    ----------
    settings
        The defaults it is served with where none are given.
    """

    def __init__(self, settings: RecommenderSettings | None = None) -> None:
        self.recommender = Recommender(settings or RecommenderSettings())

    def add(self, click: Click) -> None:
        """Learn one click."""
        self.recommender.add(click.session, click.item, click.at_ms)

    def add_session(self, clicks: Clicks) -> None:
        """Learn a session that has ended."""
        self.recommender.add_session(int(clicks.sessions[0]), clicks.items, clicks.at_ms)

    def recommend(self, query: Query) -> IntArray:
        """Rank items."""
        session, items, now_ms, limit, novel_only = query
        found = self.recommender.recommend(
            items, now_ms, limit, exclude_session=session, novel_only=novel_only
        )
        return found.rows
