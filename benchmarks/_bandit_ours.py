"""The engine's own policies in the loop: the hybrid with blocks of items and users, and its references."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logit

from bandits.arrays import FloatArray
from bandits.budgets import Quota, explore_weights, owed_weights
from bandits.exploration import Exploration
from bandits.hybrid import HybridConfig, Posterior, ShardLearner, SlotBatch
from bandits.policies import Candidates, HybridPolicy, Policy
from bandits.slates import SlateProblem, draw_slate
from benchmarks._bandit_play import Choice
from benchmarks._bandit_worlds import Round

BATCH = 5
"""Slots learnt and published together: servers see a reward a few decisions late, at a fifth of the cost."""

PATIENCE = 2000
"""Choices within which a newcomer is owed its impressions."""


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
    adapts
        Whether prior variances follow what is learnt.
    fits_users
        Whether users' variances do too, which they do not where slates are served.
    aim
        Impressions that a newcomer is owed: exploration goes, by expected reward, to those short of it who
        came within the last `PATIENCE` choices; None for uniform exploration.
    """

    config: HybridConfig
    exploration: Exploration
    rate: float
    adapts: bool = True
    fits_users: bool = False
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

    def take(self, at_ms: float = 0.0) -> SlotBatch:
        """Return all, to be learnt at this event time, and begin anew."""
        held, self._held = self._held, []
        return SlotBatch(
            np.array([then.context for then, _, _ in held]),
            np.array([then.items[place] for then, place, _ in held]),
            [then.item_ids[place] for then, place, _ in held],
            [then.user for then, _, _ in held],
            np.array([reward for _, _, reward in held]),
            np.full(len(held), self.offset),
            at_ms,
        )


class HybridPlayer:
    """The default policy, with the click model's part played by one rate; rounds are its milliseconds.

    Parameters
    ----------
    setting
        How it is played.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._policy = HybridPolicy(setting.config, adapts=setting.adapts, fits_users=setting.fits_users)
        self._shown: Counter[str] = Counter()
        self._since: dict[str, int] = {}
        self._choices = 0
        self._slots = Slots(float(logit(setting.rate)))

    def choose(self, now: Round, seed: int) -> Choice:
        """Draw one slot with its exact propensity."""
        exploration = self._setting.exploration
        candidates = Candidates(now.context, now.items, now.item_ids, now.user)
        scores = self._policy.scores(candidates, exploration, seed) + self._slots.offset
        slate = draw_slate(SlateProblem(scores, 1, self._weights(now, scores)), exploration, seed)
        place = int(slate.indices[0])
        self._shown[now.item_ids[place]] += 1
        return Choice(place, float(slate.propensities[0]))

    def _weights(self, now: Round, scores: FloatArray) -> FloatArray | None:
        self._choices += 1
        if self._setting.aim is None:
            return None
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
        if len(self._slots) == BATCH:
            self._policy.learn(self._slots.take(float(self._choices)))

    def forget(self, item_id: str) -> None:
        """Forget an item."""
        self._policy.drop_item(item_id)
        self._since.pop(item_id, None)
        del self._shown[item_id]


class WorkersPlayer:
    """The default policy learnt by several workers, each with its own accumulators, summed by one server.

    A reward goes to one worker by chance. Workers learn what they were sent, each at its own posterior, and
    publish every so many rewards of all together.

    Parameters
    ----------
    setting
        How it is played; priors stay as configured.
    workers, every
        How many, and rewards between two publications.
    """

    def __init__(self, setting: Setting, workers: int, every: int) -> None:
        self._setting, self._every, self._arrived = setting, every, 0
        self._learners = [ShardLearner(setting.config) for _ in range(workers)]
        self._posterior = Posterior(setting.config)
        self._waiting = [Slots(float(logit(setting.rate))) for _ in range(workers)]

    def choose(self, now: Round, seed: int) -> Choice:
        """Draw one slot with its exact propensity."""
        exploration = self._setting.exploration
        mean, variance = self._posterior.score(now.context, now.items, now.item_ids, None, with_variance=True)
        problem = SlateProblem(exploration.utilities(mean, variance) + self._waiting[0].offset, 1)
        slate = draw_slate(problem, exploration, seed)
        return Choice(int(slate.indices[0]), float(slate.propensities[0]), seed)

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Send a reward to its worker; publish when it is time."""
        self._waiting[choice.memo % len(self._learners)].add(then, choice.place, reward)
        self._arrived += 1
        if self._arrived % self._every == 0:
            for shard, (learner, slots) in enumerate(zip(self._learners, self._waiting, strict=True)):
                if len(slots):
                    learnt = learner.learn(slots.take(), {})
                    self._posterior.put_shared(shard, learnt.shared)
                    self._posterior.put_items(shard, learnt.items)

    def forget(self, item_id: str) -> None:
        """Forget an item."""
        for learner in self._learners:
            learner.drop_item(item_id)
        self._posterior.drop_item(item_id)


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
        candidates = Candidates(now.context, now.items, now.item_ids, now.user)
        slate = self.policy.slate(candidates, 1, self.exploration, seed)
        return Choice(int(slate.indices[0]), None if self.policy.is_sampled else float(slate.propensities[0]))

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Learn, some slots at a time."""
        self._slots.add(then, choice.place, reward)
        if len(self._slots) == BATCH:
            self.policy.learn(self._slots.take())

    def forget(self, item_id: str) -> None:
        """Forget an item."""
        self.policy.drop_item(item_id)
