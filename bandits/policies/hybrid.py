"""The default policy in one process: learner, posterior and users' blocks behind the policies' protocol."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Self

import numpy as np

from bandits.arrays import FloatArray
from bandits.exploration import Exploration
from bandits.learner import ShardLearner
from bandits.model import HybridConfig, SlotBatch
from bandits.policies.base import Candidates, Policy, Snapshot
from bandits.policies.best import of_normals
from bandits.posterior import Posterior
from bandits.priors import EmpiricalBayes


class HybridPolicy(Policy):
    """A hybrid that learns and scores in one place, users included.

    Parameters
    ----------
    config
        Dimensions and priors.
    adapts
        Whether prior variances follow what was learnt (`bandits.priors`); else they stay as configured.
    fits_users
        Whether users' variances do too; not where slates are served, as no shard reads all users' blocks.
    """

    def __init__(self, config: HybridConfig, *, adapts: bool = True, fits_users: bool = True) -> None:
        self._adapts, self._fits_users, self._bayes = adapts, fits_users, EmpiricalBayes(config)
        self._learner, self._posterior = ShardLearner(config), Posterior(config)
        self._users: dict[str, FloatArray] = {}

    @property
    def config(self) -> HybridConfig:
        """Dimensions and the prior variances in force."""
        return self._learner.config

    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return utilities (K,), logit units; the seed plays no part."""
        del seed
        mean, variance = self.moments(candidates, with_variance=exploration.scheme == "optimistic")
        return exploration.utilities(mean, variance)

    def moments(self, candidates: Candidates, *, with_variance: bool) -> tuple[FloatArray, FloatArray | None]:
        """Return means and, if wanted, variances of the candidates' logits, (K,) each."""
        return self._posterior.score(
            candidates.context,
            candidates.items,
            candidates.item_ids,
            self._users.get(candidates.user),
            with_variance=with_variance,
        )

    def learn(self, batch: SlotBatch) -> None:
        """Learn, and serve what was learnt from then on."""
        known = {user: self._users[user] for user in batch.users if user in self._users}
        learnt = self._learner.learn(batch, known)
        self._users.update(learnt.users)
        self._posterior.advance(batch.at_ms)
        self._posterior.put_shared(0, learnt.shared)
        self._posterior.put_items(0, learnt.items)
        if self._adapts and self._bayes.is_due(len(batch)):
            users = self._users if self._fits_users else {}
            self._retune(self._bayes.estimate(self._learner.shared, self._learner.items, users))

    def _retune(self, config: HybridConfig) -> None:
        self._learner.config = config
        self._posterior.retune(config)
        self._posterior.advance(self._posterior.now_ms)

    def drop_item(self, item_id: str) -> None:
        """Forget an item's block."""
        self._learner.drop_item(item_id)
        self._posterior.drop_item(item_id)

    def drop_user(self, user: str) -> None:
        """Forget a user's block."""
        self._users.pop(user, None)

    def snapshot(self) -> Snapshot:
        """Return all blocks, without the prior, and the prior beside them."""
        document = {
            "config": asdict(self._bayes.start),
            "prior": asdict(self.config),
            "adapts": self._adapts,
            "fits_users": self._fits_users,
            "slots": self._bayes.slots,
            "now_ms": self._posterior.now_ms,
            "item_ids": list(self._learner.items),
            "users": list(self._users),
        }
        arrays = {
            "shared": self._learner.shared.copy(),
            "items": _stacked(self._learner.items),
            "made_at": self._posterior.made_at(list(self._learner.items)),
            "users": _stacked(self._users),
        }
        return Snapshot(document, arrays)

    @classmethod
    def restore(cls, snapshot: Snapshot) -> Self:
        """Return a policy with these blocks."""
        document, arrays = snapshot.document, snapshot.arrays
        how = {name: document[name] for name in ("adapts", "fits_users")}
        policy = cls(HybridConfig(**document["config"]), **how)
        policy._bayes.slots = document["slots"]
        policy._bayes.now = config = HybridConfig(**document["prior"])
        items = dict(zip(document["item_ids"], arrays["items"], strict=True))
        policy._learner = ShardLearner(config, arrays["shared"], items)
        policy._posterior = Posterior(config)
        policy._posterior.advance(document["now_ms"])
        policy._posterior.put_shared(0, policy._learner.shared)
        policy._posterior.put_items(0, policy._learner.items)
        policy._posterior.make_as_of(document["item_ids"], np.array(arrays["made_at"]))
        policy._users = dict(zip(document["users"], np.array(arrays["users"]), strict=True))
        return policy


class HybridThompson(HybridPolicy):
    """Thompson sampling of the hybrid with exact propensities.

    Its scores are the logarithms of each candidate's probability to be the best, when every candidate's
    logit is drawn from its own posterior: drawn with "softmax" at temperature 1, the first slot follows
    Thompson sampling exactly, and each later slot the same probabilities among those left.

    References
    ----------
    Thompson (1933), "On the likelihood that one unknown probability exceeds another in view of the evidence
    of two samples"; Russo et al. (2018), "A tutorial on Thompson sampling", section 4.
    """

    def scores(self, candidates: Candidates, exploration: Exploration, seed: int) -> FloatArray:
        """Return log probabilities of being the best (K,); exploration and seed play no part."""
        del exploration, seed
        mean, variance = self.moments(candidates, with_variance=True)
        assert variance is not None
        return of_normals(mean, np.sqrt(variance))


def _stacked(blocks: Mapping[str, FloatArray]) -> FloatArray:
    return np.array(list(blocks.values())) if blocks else np.zeros((0, 0))
