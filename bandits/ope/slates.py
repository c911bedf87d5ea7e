"""Off-policy evaluation of whole slates from prefix-conditional propensities, streaming.

With conditional propensities, w_j = pi_e(a_j | x, a_1..a_j-1) / pi_b(the same) and W_j = w_1 ... w_j:

==========  ===================================  ==================================================
sips        mean of W_k sum_j r_j                any dependence between slots
snsips      sum W_k sum_j r_j / sum W_k          less variable
rips        mean of sum_j W_j r_j                a slot depends on those above it; McInerney (2020)
snrips      sum_j (sum W_j r_j / sum W_j)        less variable
iips        mean of sum_j m_j r_j                no slot depends on another; Li et al. (2018)
sniips      sum_j (sum m_j r_j / sum m_j)        less variable
cascade_dr  mean of sum_j W_j (r_j - Q_j)        as rips, with a model; Kiyohara et al. (2022)
            + W_j-1 V_j
pi          mean of w sum_j r_j                  slots add up; Swaminathan et al. (2017)
snpi        sum w sum_j r_j / sum w              less variable
==========  ===================================  ==================================================

m_j is the ratio of the marginal propensities of item a_j at position j; Q_j the model's expected reward from
position j on, given the slate down to j; V_j the same with position j redrawn by the target policy; w the
weight of `pseudo_inverse`.

References
----------
McInerney, Brost, Chandar, Mehrotra, Carterette (2020), "Counterfactual evaluation of slate recommendations
with sequential reward interactions"; Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay, Wen (2018), "Offline
evaluation of ranking policies with click models"; Kiyohara, Saito, Matsuhiro, Narita, Shimizu, Yamamoto
(2022), "Doubly robust off-policy evaluation for ranking policies under the cascade behavior model".
"""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray
from bandits.ope.diagnostics import Diagnostics, Gates, diagnose
from bandits.ope.evaluation import Report
from bandits.ope.intervals import Estimate
from bandits.ope.moments import Formula, Moments
from bandits.ope.rounds import check_range


@dataclass(frozen=True, slots=True)
class SlateRounds:
    """Logged slates; all arrays have shape (n, k). Fill short slates with reward 0 and propensities 1.

    Parameters
    ----------
    rewards
        r_j, in [0, 1].
    logged, target
        Propensity of each slot's candidate given the slots above it, logged in (0, 1], target in [0, 1].
    marginal_ratios
        m_j, >= 0; None where marginals are not known: then there is no iips.
    predicted, baseline
        Q_j and V_j; None for no model: then cascade_dr is rips.
    pseudo_inverse
        w of each slate, shape (n,), may be negative; None where it is not known: then there is no pi.

    Raises
    ------
    ValueError
        If shapes differ, or a number leaves its range; the first such place is named.
    """

    rewards: FloatArray
    logged: FloatArray
    target: FloatArray
    marginal_ratios: FloatArray | None = None
    predicted: FloatArray | None = None
    baseline: FloatArray | None = None
    pseudo_inverse: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = self.rewards.shape
        if len(shape) != 2:
            msg = f"rewards has shape {shape}, wanted (n, k)"
            raise ValueError(msg)
        check_range("rewards", self.rewards, shape, 0.0, 1.0)
        check_range("logged", self.logged, shape, np.nextafter(0.0, 1.0), 1.0)
        check_range("target", self.target, shape, 0.0, 1.0)
        if (self.predicted is None) != (self.baseline is None):
            msg = "one of predicted and baseline is None, wanted both or neither"
            raise ValueError(msg)
        for name, low in (("marginal_ratios", 0.0), ("predicted", -np.inf), ("baseline", -np.inf)):
            value = getattr(self, name)
            if value is not None:
                check_range(name, value, shape, low)
        if self.pseudo_inverse is not None:
            check_range("pseudo_inverse", self.pseudo_inverse, shape[:1])


class SlateEvaluation:
    """Estimates of a target policy's reward per slate.

    Parameters
    ----------
    positions
        k, slots of a slate.
    gates
        What the weights of whole prefixes, W_k, must pass.
    """

    def __init__(self, positions: int, gates: Gates | None = None) -> None:
        self._k, self._gates = positions, gates or Gates()
        self._moments, self._marginal = Moments(3 + 2 * positions), Moments(2 * positions)
        self._pseudo_inverse = Moments(2)
        self._largest = 0.0

    def add(self, rounds: SlateRounds) -> None:
        """Take in logged slates.

        Raises
        ------
        ValueError
            If they have another number of positions.
        """
        if rounds.rewards.shape[1] != self._k:
            msg = f"rewards has {rounds.rewards.shape[1]} positions, wanted {self._k}"
            raise ValueError(msg)
        prefix = np.cumprod(rounds.target / rounds.logged, axis=1, dtype=np.float64)
        whole, earned = prefix[:, -1], rounds.rewards.sum(axis=1)
        columns = [(whole * earned)[:, None], whole[:, None], self._cascade(rounds, prefix)[:, None]]
        self._moments.add(np.concatenate([*columns, prefix * rounds.rewards, prefix], axis=1))
        if rounds.marginal_ratios is not None:
            m = rounds.marginal_ratios
            self._marginal.add(np.concatenate([m * rounds.rewards, m], axis=1))
        if rounds.pseudo_inverse is not None:
            w = rounds.pseudo_inverse
            self._pseudo_inverse.add(np.stack([w * earned, w], axis=1))
        self._largest = float(whole.max(initial=self._largest))

    @staticmethod
    def _cascade(rounds: SlateRounds, prefix: FloatArray) -> FloatArray:
        if rounds.predicted is None or rounds.baseline is None:
            plain: FloatArray = (prefix * rounds.rewards).sum(axis=1)
            return plain
        before = np.concatenate([np.ones((len(prefix), 1)), prefix[:, :-1]], axis=1)
        terms = prefix * (rounds.rewards - rounds.predicted) + before * rounds.baseline
        out: FloatArray = terms.sum(axis=1)
        return out

    def estimates(self) -> dict[str, Estimate]:
        """Return all estimates by name; those by marginals or pairs only where those were logged."""
        k = self._k
        formulas = {
            "sips": Formula((0,)),
            "snsips": Formula((), ((0, 1),)),
            "rips": Formula(tuple(range(3, 3 + k))),
            "snrips": Formula((), tuple((3 + j, 3 + k + j) for j in range(k))),
            "cascade_dr": Formula((2,)),
        }
        out = {name: _estimate(name, formula, self._moments) for name, formula in formulas.items()}
        if self._marginal.n:
            by_marginals = {
                "iips": Formula(tuple(range(k))),
                "sniips": Formula((), tuple((j, k + j) for j in range(k))),
            }
            out |= {name: _estimate(name, formula, self._marginal) for name, formula in by_marginals.items()}
        if self._pseudo_inverse.n:
            by_pairs = {"pi": Formula((0,)), "snpi": Formula((), ((0, 1),))}
            out |= {
                name: _estimate(name, formula, self._pseudo_inverse) for name, formula in by_pairs.items()
            }
        return out

    def diagnostics(self) -> Diagnostics:
        """Return the health of the weights of whole slates."""
        mean, variance = float(self._moments.mean[1]), float(self._moments.covariance[1, 1])
        return diagnose(self._moments.n, mean, variance, self._largest, 0.0)

    def report(self) -> Report:
        """Return what may be shown: everything, or nothing but the reasons."""
        diagnostics = self.diagnostics()
        reasons = self._gates.reasons(diagnostics)
        return Report(not reasons, reasons, {} if reasons else self.estimates(), diagnostics)


def _estimate(name: str, formula: Formula, moments: Moments) -> Estimate:
    value, error = float(formula.value(moments.mean)), formula.standard_error(moments)
    return Estimate(name, value, error, moments.n, np.empty(0))
