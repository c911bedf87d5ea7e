"""What all subjects of a shard add to together: decayed counts of items, and the policy's accumulators."""

from collections.abc import Mapping, Sequence

import numpy as np

from bandits.hybrid import HybridConfig, ShardLearner
from bandits.priors import EmpiricalBayes, prior_of, with_prior
from bandits.ranking import seal, unseal
from online_models.trends import Trends
from state.feed import Interaction
from state.keys import bandit_key, trends_key
from state.packing import FloatArray, pack_vector, unpack_vector
from stream.closing import Judged, learn_policy
from stream.effects import Effects, Place
from stream.subjects import Subjects
from stream.sweep import LearntDays, negligible

SHARED, PRIOR = "shared", "prior"


class ShardTrends:
    """Decayed counts of one shard, and which of them moved.

    Parameters
    ----------
    place
        The shard.
    half_lives_s
        Of the counts.
    stored
        The trends hash as loaded.
    """

    def __init__(self, place: Place, half_lives_s: Sequence[float], stored: Mapping[bytes, bytes]) -> None:
        self._key = trends_key(place.prefix)
        self._trends = Trends(half_lives_s)
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._moved: dict[str, int] = {}
        for name, raw in stored.items():
            state = unpack_vector(raw).reshape(-1, 1 + 2 * len(half_lives_s))
            self._trends.put_row(place.number, self._row(name.decode()), state)

    def _row(self, item_id: str) -> int:
        if item_id not in self._rows:
            self._rows[item_id] = self._free.pop() if self._free else len(self._rows)
        return self._rows[item_id]

    def count(self, step: Interaction) -> None:
        """Count an interaction."""
        row = self._row(step.item_id)
        self._trends.add(row, step.at_ms, step.interest)
        self._moved[step.item_id] = row

    def sweep(self, watermark: int, effects: Effects) -> None:
        """Forget items that nobody has touched for long: the catalogue is another unit's."""
        for item_id in negligible(self._trends, self._rows, watermark):
            row = self._rows.pop(item_id)
            self._trends.remove_item(row)
            self._free.append(row)
            self._moved.pop(item_id, None)
            effects.erase(self._key, item_id)

    def write(self, effects: Effects) -> None:
        """Put the counts that moved into the change."""
        for item_id, row in self._moved.items():
            effects.write(self._key, item_id, pack_vector(self._trends.row_state(row).ravel()))
        self._moved = {}


class ShardPolicy:
    """The policy's accumulators of one shard, without the prior.

    Parameters
    ----------
    prefix
        Key prefix of the shard.
    config
        Of the policy.
    stored
        The hashes of blocks and of the days they learnt on, as loaded.
    block_life_ms
        How long an item's block stays after it last learnt.
    """

    def __init__(
        self,
        prefix: str,
        config: HybridConfig,
        stored: tuple[Mapping[bytes, bytes], Mapping[bytes, bytes]],
        block_life_ms: int,
    ) -> None:
        self._key, self._start = bandit_key(prefix), config
        opened = {name.decode(): unseal(raw) for name, raw in stored[0].items()}
        blocks = {name: unpack_vector(raw) for name, raw in opened.items() if raw is not None}
        shared, prior = blocks.pop(SHARED, None), blocks.pop(PRIOR, None)
        items = {name[2:]: block for name, block in blocks.items()}
        self._learner = ShardLearner(config if prior is None else with_prior(config, prior), shared, items)
        self._days = LearntDays(prefix, stored[1], block_life_ms)

    def learn(
        self, outcomes: Sequence[Judged], subjects: Subjects, watermark: int, effects: Effects
    ) -> list[str] | None:
        """Learn from closed decisions; returns the items whose blocks changed; None where nothing is."""
        learnt = learn_policy(self._learner, outcomes, _blocks(outcomes, subjects), watermark)
        if learnt is None:
            return None
        for subject, block in learnt.users.items():
            subjects.touch(subject).bandit = seal(np.ascontiguousarray(block, dtype="<f8").tobytes())
        effects.write(self._key, SHARED, seal(pack_vector(learnt.shared)))
        for item_id, block in learnt.items.items():
            effects.write(self._key, f"i:{item_id}", seal(pack_vector(block)))
        items = sorted(learnt.items)
        self._days.note(items, watermark, effects)
        return items

    def sweep(self, watermark: int, effects: Effects) -> list[str]:
        """Forget items that nothing was learnt of for long, and fit the prior; returns the items."""
        self._fit_prior(effects)
        old = self._days.take_old(self._learner.items, watermark, effects)
        for item_id in old:
            self._learner.drop_item(item_id)
            effects.erase(self._key, f"i:{item_id}")
        return old

    @property
    def has_learnt(self) -> bool:
        """Whether there is anything that servers read."""
        return bool(self._learner.shared[0])

    def _fit_prior(self, effects: Effects) -> None:
        """Take the prior variances under which what the shard has learnt is most likely; readers follow."""
        learner = self._learner
        if not learner.items:
            return
        bayes = EmpiricalBayes(self._start, learner.config)
        learner.config = bayes.estimate(learner.shared, learner.items, {})
        effects.write(self._key, PRIOR, seal(pack_vector(prior_of(learner.config, float(learner.shared[0])))))


def _blocks(outcomes: Sequence[Judged], subjects: Subjects) -> dict[str, FloatArray]:
    blocks = {}
    for one in outcomes:
        subject = one.closed.entry.subject
        stored = unseal(subjects.read(subject).bandit)
        if stored is not None:
            blocks[subject] = np.frombuffer(stored, dtype="<f8").astype(np.float64)
    return blocks
