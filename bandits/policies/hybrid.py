"""The default policy in one process: learner and posterior together, behind the policies' protocol."""

from collections.abc import Sequence

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.learner import ShardLearner
from bandits.model import HybridConfig, SlotBatch
from bandits.posterior import Posterior


class HybridPolicy:
    """A hybrid that learns and scores in one place, for simulations; users have no blocks here.

    Parameters
    ----------
    config
        Dimensions and priors.
    exploration
        Whose utilities are the scores: the mean logit, with optimism where the scheme wants it.
    """

    is_sampled = False

    def __init__(self, config: HybridConfig, exploration: Exploration) -> None:
        self._learner, self._posterior, self._exploration = (
            ShardLearner(config),
            Posterior(config),
            exploration,
        )

    def scores(
        self, context: FloatArray, items: FloatArray, item_ids: Sequence[str], seed: int
    ) -> FloatArray:
        """Return utilities (K,), logit units; the seed plays no part."""
        del seed
        optimistic = self._exploration.scheme == "optimistic"
        mean, variance = self._posterior.score(context, items, item_ids, None, with_variance=optimistic)
        return self._exploration.utilities(mean, variance)

    def learn(self, batch: SlotBatch) -> None:
        """Learn, and serve what was learnt from then on."""
        learnt = self._learner.learn(batch, {})
        self._posterior.put_shared(0, learnt.shared)
        self._posterior.put_items(0, learnt.items)

    def drop_item(self, item_id: str) -> None:
        """Forget an item's block."""
        self._learner.drop_item(item_id)
        self._posterior.drop_item(item_id)
