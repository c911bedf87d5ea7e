"""The default policy, in one place to import from: a Bayesian hybrid of shared, per-item and per-user blocks.

`HybridConfig` says what it is, `ShardLearner` learns it where decisions close, `Posterior` scores with it
where slates are drawn; between them travel packed blocks (`packed_size`, `empty_block`) that add up over
shards.
"""

from bandits.learner import ShardLearner
from bandits.model import HybridConfig, Learnt, SlotBatch
from bandits.natural import empty_block, packed_size
from bandits.posterior import Posterior

__all__ = [
    "HybridConfig",
    "Learnt",
    "Posterior",
    "ShardLearner",
    "SlotBatch",
    "empty_block",
    "packed_size",
]
