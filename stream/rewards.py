"""The rewards of one item of one decision: which are kept, and what they are worth when it closes."""

from collections.abc import Sequence

from state.opened import Reward
from state.rules import SurfaceRules

FIRST_KEPT = 8
"""Of one item's rewards the first so many are kept, and of the others each larger than all before it."""


def with_reward(kept: Sequence[Reward], new: Reward) -> list[Reward]:
    """Return rewards, earliest first, with one more; which are kept depends on no order of arrival."""
    best, still_kept = 0.0, []
    for place, reward in enumerate(sorted([*kept, new], key=_order)):
        if place < FIRST_KEPT or reward.worth > best:
            still_kept.append(reward)
        best = max(best, reward.worth)
    return still_kept


def _order(reward: Reward) -> tuple[int, float, str]:
    return reward.at_ms, -reward.worth, reward.surface


def worth_of(rewards: Sequence[Reward], rules: SurfaceRules) -> float | None:
    """Return what an item's rewards inside the window, earliest first, are worth; None where it has none."""
    if not rewards:
        return None
    if rules.rewards == "first":
        return rewards[0].worth
    if rules.cap is None:
        return max(reward.worth for reward in rewards)
    return min(rules.cap, sum(reward.worth for reward in rewards)) / rules.cap
