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
    Exploration(scheme="epsilon", rate=0.3, mode="single_slot"),
    Exploration(scheme="epsilon", rate=1.0, floor=0.002, mode="single_slot"),
    Exploration(scheme="softmax", rate=0.4, temperature=0.7, floor=0.01, mode="single_slot"),
    Exploration(scheme="squarecb", rate=0.2, gamma=30.0, mode="single_slot"),
]


def name_of(exploration: Exploration) -> str:
    """Name an exploration in a test's id."""
    numbers = f"{exploration.rate}-{exploration.floor}-{exploration.temperature}"
    return f"{exploration.scheme}-{numbers}" + ("-single" if exploration.mode == "single_slot" else "")
