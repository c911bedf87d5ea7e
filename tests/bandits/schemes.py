"""One exploration of every kind, for contracts that all schemes must keep."""

from bandits.exploration import Exploration

SCHEMES = [
    Exploration(scheme="greedy"),
    Exploration(scheme="epsilon", rate=0.3),
    Exploration(scheme="epsilon", rate=0.0, floor=0.02),
    Exploration(scheme="epsilon", rate=1.0),
    Exploration(scheme="softmax", rate=0.0, temperature=0.5),
    Exploration(scheme="softmax", rate=0.2, temperature=0.7, floor=0.03),
    Exploration(scheme="softmax", rate=0.0, temperature=1e-3),
    Exploration(scheme="optimistic", rate=0.1, temperature=1.0, floor=0.05),
    Exploration(scheme="squarecb", rate=0.1, gamma=30.0),
    Exploration(scheme="squarecb", rate=0.0, gamma=1000.0, floor=0.01),
]


def name_of(exploration: Exploration) -> str:
    """Name an exploration in a test's id."""
    return f"{exploration.scheme}-{exploration.rate}-{exploration.floor}-{exploration.temperature}"
