"""What every policy does: score candidates, learn from closed slots, forget, and go into a store and back.

A decision takes four steps, and each policy is asked for the first and the last alone: `Policy.scores`, then
the law of each slot by the exploration of that decision (`bandits.exploration`), then the slate
(`bandits.slates`), and later, when its outcome is known, `Policy.learn`. No policy stores an exploration.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.model import SlotBatch
from bandits.randomness import decision_seed
from bandits.slates import Slate, SlateProblem, draw_slate, slot_distribution


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who may be shown to whom.

    Parameters
    ----------
    context
        x_c, shape (context_dim,).
    items
        x_i of each candidate, shape (K, item_dim).
    item_ids
        Of the K candidates; unseen ones are welcome.
    user
        Whose choice it is; "" for nobody known.
    """

    context: FloatArray
    items: FloatArray
    item_ids: Sequence[str]
    user: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy's whole state: what JSON can say, and arrays; nothing else is ever stored.

    Parameters
    ----------
    document
        Settings and ids, of JSON's own types.
    arrays
        By name.
    """

    document: Mapping[str, Any]
    arrays: Mapping[str, FloatArray]


class Policy(ABC):
    """Scores candidates and learns.

    Epsilon-greedy popularity, for one, is `Popularity` drawn with the scheme "epsilon"; SquareCB is a policy
    whose scores are logits drawn with the scheme "squarecb". `bandits.policies.catalogue` names them all.
    """

    is_sampled: ClassVar[bool] = False
    """Whether scores depend on the seed: then a draw's propensities are given the sample, not the truth.

    `bandits.policies.sampling` has the price of the truth.
    """

    @abstractmethod
    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return scores of K candidates, higher is better, finite, shape (K,).

        Parameters
        ----------
        candidates
            Who may be shown to whom.
        exploration
            Of this decision; says whether optimism is wanted.
        seed
            Decides any sampling, in [0, 2**63).
        """

    @abstractmethod
    def learn(self, batch: SlotBatch) -> None:
        """Learn from closed slots, in order; deterministic."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return the whole state; later learning does not change it."""

    @classmethod
    @abstractmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Return a policy that goes on where `snapshot` was taken.

        Raises
        ------
        KeyError, ValueError
            If something is missing or wrong.
        """

    def drop_item(self, item_id: str) -> None:  # noqa: B027 - most policies know no single item
        """Forget what is known of one item; an unknown item is no error."""

    def drop_user(self, user: str) -> None:  # noqa: B027 - most policies know no single user
        """Forget what is known of one user; an unknown user is no error."""

    def distribution(
        self,
        candidates: Candidates,
        size: int,
        exploration: Exploration,
        seed: int,
        prefix: Sequence[int] = (),
    ) -> FloatArray:
        """Return every candidate's propensity at the slot after `prefix`, shape (K,): they sum to 1.

        Given the sample where the policy samples. The size of the slate counts where its slots share a coin.
        """
        problem = SlateProblem(self.scores(candidates, exploration, _sample_seed(seed)), size)
        return slot_distribution(problem, np.array(prefix, np.int64), exploration)

    def slate(self, candidates: Candidates, size: int, exploration: Exploration, seed: int) -> Slate:
        """Draw a slate of so many slots; the seed decides it."""
        problem = SlateProblem(self.scores(candidates, exploration, _sample_seed(seed)), size)
        return draw_slate(problem, exploration, seed)


def _sample_seed(seed: int) -> int:
    """Return the seed of the scores: unrelated to that of the draw, which uses the same numbers."""
    return decision_seed(str(seed), "scores")
