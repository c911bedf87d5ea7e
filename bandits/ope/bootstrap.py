"""The bootstrap over a stream: each replicate counts each round a Poisson(1) number of times."""

import numpy as np

from bandits.arrays import FloatArray


class PoissonBootstrap:
    """Replicates of the mean of a stream of vectors, in memory that does not grow with it.

    Parameters
    ----------
    replicates
        B, how many; 0 for none.
    size
        Length m of each vector.
    seed
        Of the counts: the same rounds in the same chunks give the same replicates.

    References
    ----------
    Oza, Russell (2001), "Online bagging and boosting"; Chamandy, Muralidharan, Najmi, Naidu (2012),
    "Estimating uncertainty for massive data streams".
    """

    def __init__(self, replicates: int, size: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._counts = np.zeros(replicates)
        self._sums = np.zeros((replicates, size))

    def add(self, vectors: FloatArray) -> None:
        """Take in vectors (n, m)."""
        if len(self._counts):
            times = self._rng.poisson(1.0, (len(self._counts), len(vectors))).astype(np.float64)
            self._counts += times.sum(axis=1)
            self._sums += times @ vectors

    def means(self) -> FloatArray:
        """Return the mean of each replicate that counted any round, shape (<= B, m)."""
        some = self._counts > 0
        return self._sums[some] / self._counts[some, None]
