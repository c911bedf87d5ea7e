"""The eight estimators of a policy's value as functions of streamed means.

With w = pi_e / pi_b, reward r, model q(x, a) and its mean under the target dm(x):

=========  ========================================  =================================================
dm         mean dm                                   as good or bad as the model
ips        mean w r                                  unbiased; Horvitz, Thompson (1952)
cips       mean min(w, M) r                          Bottou et al. (2013)
snips      sum w r / sum w                           Swaminathan, Joachims (2015)
dr         mean dm + w (r - q)                       Dudik, Erhan, Langford, Li (2014)
sndr       mean dm + sum w (r - q) / sum w           Thomas, Brunskill (2016)
switch     mean dm + w [w <= tau] (r - q)            Wang, Agarwal, Dudik (2017)
dros       mean dm + (l w / (w^2 + l)) (r - q)       Su, Dimakopoulou, Krishnamurthy, Dudik (2020)
=========  ========================================  =================================================
"""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray
from bandits.ope.moments import Formula
from bandits.ope.rounds import Rounds

DM, WEIGHT, IPS, CLIPPED, RESIDUAL, SWITCH, SHRUNK, UNSUPPORTED = range(8)
"""Places in the vector of statistics of one round."""

STATISTICS = 8

FORMULAS = {
    "dm": Formula((DM,)),
    "ips": Formula((IPS,)),
    "cips": Formula((CLIPPED,)),
    "snips": Formula((), ((IPS, WEIGHT),)),
    "dr": Formula((DM, RESIDUAL)),
    "sndr": Formula((DM,), ((RESIDUAL, WEIGHT),)),
    "switch": Formula((DM, SWITCH)),
    "dros": Formula((DM, SHRUNK)),
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """Where weights are cut or shrunk; larger is less biased and more variable.

    Parameters
    ----------
    clip
        M of clipped IPS, > 0.
    switch
        tau of switch-DR, > 0: beyond it the model answers alone.
    shrinkage
        l (lambda) of DR with optimistic shrinkage, > 0.

    Raises
    ------
    ValueError
        If one of them is not a positive finite number.
    """

    clip: float = 10.0
    switch: float = 10.0
    shrinkage: float = 10.0

    def __post_init__(self) -> None:
        for name in ("clip", "switch", "shrinkage"):
            if not 0 < getattr(self, name) < np.inf:
                msg = f"{name} is {getattr(self, name)}, wanted a positive finite number"
                raise ValueError(msg)

    def statistics(self, rounds: Rounds, part: slice = slice(None)) -> FloatArray:
        """Return the vector of statistics of each round in a part of them, shape (n, 8)."""
        rewards, w = rounds.rewards[part], rounds.target[part] / rounds.logged[part]
        residual = rewards - rounds.predicted[part]
        out = np.zeros((len(w), STATISTICS))
        out[:, DM] = rounds.baseline[part]
        out[:, WEIGHT] = w
        out[:, IPS] = w * rewards
        out[:, CLIPPED] = np.minimum(w, self.clip) * rewards
        out[:, RESIDUAL] = w * residual
        out[:, SWITCH] = np.where(w <= self.switch, w, 0.0) * residual
        out[:, SHRUNK] = self.shrinkage * w / (w * w + self.shrinkage) * residual
        if rounds.unsupported is not None:
            out[:, UNSUPPORTED] = rounds.unsupported[part]
        return out

    def span(self, name: str, largest_weight: float) -> float:
        """Return the width of the range that one round's value can have, for rewards and models in [0, 1].

        Parameters
        ----------
        name
            Of an estimator that is a mean over rounds: all but "snips" and "sndr".
        largest_weight
            A bound on w known before the log is read: 1 / floor.

        Raises
        ------
        ValueError
            If the estimator is no mean.
        """
        w = {"ips": largest_weight, "dr": largest_weight, "dm": 0.0}.get(name)
        if name == "cips":
            return min(self.clip, largest_weight)
        if name == "switch":
            w = min(self.switch, largest_weight)
        if name == "dros":
            w = float(np.sqrt(self.shrinkage)) / 2.0
        if w is None:
            msg = f"name is {name!r}, wanted one of dm, ips, cips, dr, switch, dros: the others are no means"
            raise ValueError(msg)
        return w if name == "ips" else 1.0 + 2.0 * w
