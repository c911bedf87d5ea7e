"""Why retrieved items were cut, one letter each as decisions log it, and what the letters say."""

from collections.abc import Sequence

from msgspec import Struct

UNAVAILABLE, SEEN, EXCLUDED, ELSEWHERE = "u", "s", "x", "c"
HIDDEN, TOUCHED, FILTERED, EARLIER = "h", "r", "f", "p"
FIRST_RULE = "A"
"""Rules that hide have letters from here on, in the order the decision lists them."""


class Cut(Struct, frozen=True):
    """Why an item was cut: a word, a sentence's end, and the rule where one did it."""

    reason: str
    said: str
    rule: str = ""


_CUTS = {
    UNAVAILABLE: Cut("unavailable", "it was not available"),
    SEEN: Cut("seen", "the visitor had interacted with it within the time nothing is shown again"),
    EXCLUDED: Cut("excluded", "the request excluded it"),
    ELSEWHERE: Cut("other_category", "it is in none of the categories the request asked for"),
    HIDDEN: Cut("hidden", "the visitor had hidden or disliked it"),
    TOUCHED: Cut("touched", "the request named it as touched in this session, or as a seed"),
    FILTERED: Cut("filter", "it did not pass the request's filter"),
    EARLIER: Cut("earlier_page", "an earlier page had shown it"),
}


def reason_of(letter: str, rules: Sequence[str]) -> Cut:
    """Return what a letter says; `rules` are the names of those that hide, as the decision lists them."""
    known = _CUTS.get(letter)
    if known is not None:
        return known
    place = ord(letter) - ord(FIRST_RULE)
    name = rules[place] if 0 <= place < len(rules) else letter
    return Cut("rule", f"the rule {name} hid it", name)
