"""The logged scalars that off-policy evaluation of single choices needs, one row a decided slot."""

from dataclasses import dataclass

import numpy as np

from bandits.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Rounds:
    """Logged rounds; all arrays have shape (n,).

    Parameters
    ----------
    rewards
        r, in [0, 1].
    logged
        pi_b(a | x): propensity of the shown candidate under the logging policy, in (0, 1].
    target
        pi_e(a | x): its propensity under the policy that is judged, in [0, 1].
    predicted
        q(x, a): the expected reward of the shown candidate by a model that did not see this round.
    baseline
        dm(x): the same model's expected reward under the target policy, sum over a of pi_e(a | x) q(x, a).
    unsupported
        Mass that the target policy gives to candidates the logging policy could not show; None if not known.

    Raises
    ------
    ValueError
        If lengths differ, or a number leaves its range; the first such index is named.
    """

    rewards: FloatArray
    logged: FloatArray
    target: FloatArray
    predicted: FloatArray
    baseline: FloatArray
    unsupported: FloatArray | None = None

    def __post_init__(self) -> None:
        one = np.nextafter(0.0, 1.0)
        check_range("rewards", self.rewards, self.rewards.shape, 0.0, 1.0)
        check_range("logged", self.logged, self.rewards.shape, one, 1.0)
        check_range("target", self.target, self.rewards.shape, 0.0, 1.0)
        check_range("predicted", self.predicted, self.rewards.shape)
        check_range("baseline", self.baseline, self.rewards.shape)
        if self.unsupported is not None:
            check_range("unsupported", self.unsupported, self.rewards.shape, 0.0, 1.0)

    def __len__(self) -> int:
        return len(self.rewards)


def check_range(
    name: str, values: FloatArray, shape: tuple[int, ...], low: float = -np.inf, high: float = np.inf
) -> None:
    """Refuse values of another shape, not finite or out of [low, high].

    Propensities may exceed 1 by rounding: 1e-9 is forgiven.

    Raises
    ------
    ValueError
        Naming the field, the first wrong place and its value.
    """
    if values.shape != shape:
        msg = f"{name} has shape {values.shape}, wanted {shape}: that of rewards"
        raise ValueError(msg)
    wrong = ~(np.isfinite(values) & (values >= low) & (values <= high + 1e-9))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = ", ".join(map(str, place))
        msg = f"{name}[{where}] is {values[place]}, wanted a finite number in {_interval(low, high)}"
        raise ValueError(msg)


def _interval(low: float, high: float) -> str:
    return f"(0, {high:g}]" if 0 < low < 1e-300 else f"[{low:g}, {high:g}]"
