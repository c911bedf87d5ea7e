"""What every policy does: score candidates, learn from closed slots, forget an item."""

from collections.abc import Sequence
from typing import Protocol

from bandits.arrays import FloatArray
from bandits.model import SlotBatch


class Policy(Protocol):
    """Scores candidates; how the slate is drawn from the scores is `bandits.exploration`'s business.

    Epsilon-greedy popularity, for one, is `Popularity` drawn with the scheme "epsilon", and SquareCB is any
    policy whose scores are logits drawn with the scheme "squarecb".
    """

    @property
    def is_sampled(self) -> bool:
        """Whether scores depend on the seed: then a draw's propensities are given the sample, not the truth.

        `bandits.policies.sampling` has the price of the truth.
        """
        ...

    def scores(
        self, context: FloatArray, items: FloatArray, item_ids: Sequence[str], seed: int
    ) -> FloatArray:
        """Return scores of K candidates, higher is better, finite, shape (K,); the seed decides any sampling.

        Parameters
        ----------
        context
            x_c, shape (context_dim,).
        items
            x_i of each candidate, shape (K, item_dim).
        item_ids
            Of the K candidates; unseen ones are welcome.
        seed
            In [0, 2**63).
        """
        ...

    def learn(self, batch: SlotBatch) -> None:
        """Learn from closed slots, in order; deterministic."""
        ...

    def drop_item(self, item_id: str) -> None:
        """Forget what is known of one item; an unknown item is no error."""
        ...
