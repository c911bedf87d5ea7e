"""Rules of surfaces: said in one setting, refused with a reason, found by surface."""

import pytest

from state.rules import SurfaceRules, rules_of
from state.settings import Settings, SettingsError, load_settings


def load(text: str) -> Settings:
    return load_settings({"HEADWATER_ATTRIBUTION": text})


def test_the_setting_gives_each_surface_its_rules() -> None:
    text = '{"home": {"rewards": "sum", "cap": 2.0, "default_reward": 0.1}, "*": {"learn_unseen": true}}'
    rules = load(text).attribution
    assert rules_of(rules, "home") == SurfaceRules(rewards="sum", cap=2.0, default_reward=0.1)
    assert rules_of(rules, "cart") == SurfaceRules(learn_unseen=True)
    assert rules_of({}, "cart") == SurfaceRules()
    assert load_settings(load(text).environment()).attribution == rules


@pytest.mark.parametrize(
    ("text", "wished"),
    [
        ('{"home": {"rewards": "last"}}', "Invalid enum value 'last'"),
        ('{"home": {"reward": "max"}}', "unknown field `reward`"),
        ('{"home": {"rewards": "sum"}}', "with rewards 'sum' wished: a number above 0"),
        ('{"home": {"cap": 2.0}}', "with rewards 'max' wished: no cap"),
        ('{"home": {"rewards": "sum", "cap": 0}}', "> 0.0"),
        ('{"home": {"default_reward": 1.5}}', "<= 1.0"),
        ('{"Home": {}}', "regex"),
        ('{"_none": {}}', "regex"),
        ("[]", "Expected `object`"),
    ],
)
def test_rules_that_cannot_be_are_refused_with_value_and_wish(text: str, wished: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(text)
    message = str(error.value)
    assert f"HEADWATER_ATTRIBUTION has value {text!r}" in message
    assert wished in message.split("wished: ", maxsplit=1)[1]
