"""Vowpal Wabbit in the loop, through its Python package; nothing here is imported where it is absent."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks._bandit_play import Choice
from benchmarks._bandit_worlds import Round

BOUNDS = "--cb_min_cost -1 --cb_max_cost 0"
"""Without them RegCB takes costs to be in [0, 1] and, with rewards as costs of -1, learns nothing."""

FLAGS: Mapping[str, str] = {
    "vw regcbopt mellowness .001": f"--regcbopt --mellowness 0.001 {BOUNDS}",
    "vw squarecb gamma 100": f"--squarecb --gamma_scale 100 {BOUNDS}",
    "vw regcbopt mellowness .1": f"--regcbopt --mellowness 0.1 {BOUNDS}",
    "vw bag 10": "--bag 10",
    "vw squarecb gamma 1000": f"--squarecb --gamma_scale 1000 {BOUNDS}",
    "vw regcbopt mellowness .01": f"--regcbopt --mellowness 0.01 {BOUNDS}",
    "vw synthcover": f"--synthcover {BOUNDS}",
    "vw bag 5": "--bag 5",
    "vw first 1000": "--first 1000",
    "vw softmax lambda 100": "--softmax --lambda 100",
    "vw squarecb gamma 5000": f"--squarecb --gamma_scale 5000 {BOUNDS}",
    "vw squarecb gamma 10": f"--squarecb --gamma_scale 10 {BOUNDS}",
    "vw epsilon .05": "--epsilon 0.05",
    "vw epsilon .1": "--epsilon 0.1",
    "vw epsilon .02": "--epsilon 0.02",
    "vw cover 4": "--cover 4",
    "vw rnd 3": "--rnd 3 --epsilon 0.01",
    "vw regcb mellowness .01": f"--regcb --mellowness 0.01 {BOUNDS}",
}
"""By merit on a stream that is not among those reported."""

STEADY = "--power_t 0"
"""A learning rate that does not fall: VW's way to follow a world that changes."""

BY_USER = "-q XA"
"""Weights of item features for each user."""


class VowpalPlayer:
    """Exploration with `--cb_explore_adf`: features of user and item, their products, the item's id.

    Parameters
    ----------
    flags
        Of the exploration and anything else.
    """

    def __init__(self, flags: str) -> None:
        from vowpalwabbit import Workspace  # noqa: PLC0415 - optional, see the module

        self._vw: Any = Workspace(f"--cb_explore_adf --cb_type mtr -q UA --quiet {flags}")
        self._actions: dict[str, Any] = {}

    def choose(self, now: Round, seed: int) -> Choice:
        """Draw by the distribution it returns."""
        shared = self._vw.parse([shared_line(now)])[0]
        law = np.array(self._vw.predict([shared, *self._parsed_actions(now)]))
        sums = np.cumsum(law)
        u = np.random.default_rng(seed).random() * sums[-1]
        place = min(int(np.searchsorted(sums, u, side="right")), len(law) - 1)
        return Choice(place, float(law[place]), shared)

    def learn(self, then: Round, choice: Choice, reward: float) -> None:
        """Learn from the chosen action with its propensity, all the others beside it."""
        shared = choice.memo or self._vw.parse([shared_line(then)])[0]
        actions, place = self._parsed_actions(then), choice.place
        line = action_line(then.item_ids[place], then.items[place])
        actions[place] = self._vw.parse([f"0:{-reward}:{choice.propensity} {line}"])[0]
        self._vw.learn([shared, *actions])
        # It takes examples back only with a prediction of as many actions as are given back.
        self._vw.predict([shared, actions[place]])
        self._vw.finish_example([shared, actions[place]])

    def forget(self, item_id: str) -> None:
        """Drop the parsed action; weights stay where hashes put them."""
        self._actions.pop(item_id, None)

    def _parsed_actions(self, now: Round) -> list[Any]:
        """Return the actions' examples: parsed once an item, as parsing takes VW longer than choosing."""
        held = self._actions
        for item, row in zip(now.item_ids, now.items, strict=True):
            if item not in held:
                held[item] = self._vw.parse([action_line(item, row)])[0]
        return [held[item] for item in now.item_ids]

    def parsed(self, now: Round) -> Any:
        """Return the examples of a round for `predict`, so that only VW's core is timed."""
        return self._vw.parse(self.lines(now))

    def lines(self, now: Round) -> list[str]:
        """Return the lines of a round, as VW reads them."""
        actions = [action_line(item, row) for item, row in zip(now.item_ids, now.items, strict=True)]
        return [shared_line(now), *actions]

    def predict(self, parsed: Any) -> Any:
        """Return the distribution for parsed examples."""
        return self._vw.predict(parsed)

    def one_action(self, then: Round, place: int) -> list[str]:
        """Return a reward's lines with the chosen action alone, as a log would hold them."""
        return [shared_line(then), f"0:0:0.5 {action_line(then.item_ids[place], then.items[place])}"]

    def update(self, lines: list[str]) -> None:
        """Learn from lines."""
        self._vw.learn(lines)


def shared_line(now: Round) -> str:
    """Return the line of what all actions share."""
    user = f" |X {now.user}" if now.user else ""
    return f"shared |U {numbers('u', now.context)}{user}"


def action_line(item_id: str, features: Any) -> str:
    """Return the line of one action."""
    return f"|A {numbers('a', features)} |I {item_id}"


def numbers(prefix: str, values: Any) -> str:
    """Return features with names, the leading 1 left out: there is a constant already."""
    return " ".join(f"{prefix}{n}:{value:.5f}" for n, value in enumerate(values[1:].tolist()) if value)
