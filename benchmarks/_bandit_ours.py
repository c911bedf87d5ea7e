"""The engine's own policies in the loop: the hybrid with blocks of items and users, and its references."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logit

from bandits.arrays import FloatArray
from bandits.budgets import Quota, explore_weights, owed_weights
from bandits.exploration import Exploration
from bandits.hybrid import HybridConfig, Posterior, ShardLearner, SlotBatch
from bandits.policies import Policy
from bandits.slates import SlateProblem, draw_slate
from benchmarks._bandit_play import Choice
from benchmarks._bandit_worlds import Round

BATCH = 5
"""Slots learnt and published together: servers see a reward a few decisions late, at a fifth of the cost."""

PATIENCE = 2000
"""Choices within which a newcomer is owed its impressions."""

FADE_EVERY = 50
"""Rewards between two discounts: one pass over all items each."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a hybrid is played.

    Parameters
    ----------
    config
        Dimensions and priors.
    exploration
        The law of each choice.
    rate
        Expected reward before anything is learnt: its logit is the offset of every slot, as a click model's
        is where slates are served.
    discount
        What is kept of shared and items' blocks for each reward; 1 for everything.
    aim
        Impressions that a newcomer is owed: exploration goes, by expected reward, to those short of it who
        came within the last `PATIENCE` choices; None for uniform exploration.
    """

    config: HybridConfig
    exploration: Exploration
    rate: float
    discount: float = 1.0
    aim: int | None = None


class Slots:
    """Closed slots that wait to be learnt together.

    Parameters
    ----------
    offset
        Of every logit; 0 where nobody asks.
    """

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset
        self._held: list[tuple[Round, int, float]] = []

    def __len__(self) -> int:
        return len(self._held)

    def add(self, then: Round, place: int, reward: float) -> None:
        """Add one."""
        self._held.append((then, place, reward))

    def take(self) -> SlotBatch:
        """Return all and begin anew."""
        held, self._held = self._held, []
        return SlotBatch(
            np.array([then.context for then, _, _ in held]),
            np.array([then.items[place] for then, place, _ in held]),
            [then.item_ids[place] for then, place, _ in held],
            [then.user for then, _, _ in held],
            np.array([reward for _, _, reward in held]),
            np.full(len(held), self.offset),
        )


class HybridPlayer:
    """One shard's learner and one server's posterior, as they are served, publishing after each small batch.

    Parameters
    ----------
    setting
        How it is played.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting, self._rewards = setting, 0
        self._learner, self._posterior = ShardLearner(setting.config), Posterior(setting.config)
        self._users: dict[str, FloatArray] = {}
        self._shown: Counter[str] = Counter()
        self._since: dict[str, int] = {}
        self._choices = 0
        self._slots = Slots(float(logit(setting.rate)))

    def choose(self, now: Round, seed: int) -> Choice:
        """Draw one slot with its exact propensity."""
        exploration = self._setting.exploration
        optimistic = exploration.scheme == "optimistic"
        mean, variance = self._posterior.score(
            now.context, now.items, now.item_ids, self._users.get(now.user), with_variance=optimistic
        )
        scores = exploration.utilities(mean, variance) + self._slots.offset
        slate = draw_slate(SlateProblem(scores, 1, self._weights(now, scores)), exploration, seed)
        place = int(slate.indices[0])
        self._shown[now.item_ids[place]] += 1
        return Choice(place, float(slate.propensities[0]))

    def _weights(self, now: Round, scores: FloatArray) -> FloatArray | None:
        if self._setting.aim is None:
            return None
        self._choices += 1
        # Those there at the start are no newcomers: all of them at once would take the budget for long.
        since = self._choices if self._since else -PATIENCE
        ages = [self._choices - self._since.setdefault(item, since) for item in now.item_ids]
        shown = [self._shown[item] for item in now.item_ids]
        quota = Quota(self._setting.aim, PATIENCE)
        deficits = quota.deficits(np.array(shown, np.float64), np.array(ages, np.float64))
        return explore_weights(owed_weights(deficits, scores))

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Learn and publish, some slots at a time."""
        self._slots.add(then, choice.place, reward)
        if len(self._slots) < BATCH:
            return
        batch = self._slots.take()
        learnt = self._learner.learn(batch, {u: self._users[u] for u in batch.users if u in self._users})
        self._users.update(learnt.users)
        self._rewards += len(batch)
        if self._setting.discount < 1.0 and self._rewards % FADE_EVERY == 0:
            learnt = self._learner.fade(self._setting.discount**FADE_EVERY)
        self._posterior.put_shared(0, learnt.shared)
        self._posterior.put_items(0, learnt.items)

    def forget(self, item_id: str) -> None:
        """Forget an item."""
        self._learner.drop_item(item_id)
        self._posterior.drop_item(item_id)
        self._since.pop(item_id, None)
        del self._shown[item_id]


@dataclass
class PolicyPlayer:
    """A reference policy drawn with an exploration.

    Parameters
    ----------
    policy
        Scores and learns.
    exploration
        The law of each choice.
    """

    policy: Policy
    exploration: Exploration
    _slots: Slots = field(default_factory=Slots, repr=False)

    def choose(self, now: Round, seed: int) -> Choice:
        """Draw one slot."""
        scores = self.policy.scores(now.context, now.items, now.item_ids, seed)
        slate = draw_slate(SlateProblem(scores, 1), self.exploration, seed)
        return Choice(int(slate.indices[0]), None if self.policy.is_sampled else float(slate.propensities[0]))

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Learn, some slots at a time."""
        self._slots.add(then, choice.place, reward)
        if len(self._slots) == BATCH:
            self.policy.learn(self._slots.take())

    def forget(self, item_id: str) -> None:
        """Forget an item."""
        self.policy.drop_item(item_id)
