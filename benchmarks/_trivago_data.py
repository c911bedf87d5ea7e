"""Hotel lists that were shown and what their visitors did before, in order of time."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from headwater.evaluation.clicks import ClickLogError

T = TypeVar("T", bound=Struct)
CLICKOUT = "clickout item"


class Action(Struct):
    """One step of a session; `reference` is an item where the action is on one."""

    user_id: str
    session_id: str
    timestamp: int
    step: int
    action_type: str
    reference: str | None = None
    city: str | None = None


class Shown(Struct):
    """A list that was shown, in its order, with the price of each and the item clicked."""

    user: str
    session: str
    ts: int
    step: int
    device: str
    items: list[str]
    prices: list[float]
    clicked: str


class Step(NamedTuple):
    """An action, and the list it was a click on where it was one."""

    action: Action
    shown: Shown | None


def read_steps(folder: Path) -> list[Step]:
    """Return all actions in order of time; those of one session in order of their steps.

    Raises
    ------
    ClickLogError
        If a file is missing or a line of it cannot be read.
    """
    lists = {(one.user, one.session, one.step): one for one in _rows(folder / "impressions.jsonl.gz", Shown)}
    actions = list(_rows(folder / "actions_all.jsonl.gz", Action))
    latest: dict[tuple[str, str], int] = {}
    times = []
    for action in sorted(actions, key=lambda one: (one.user_id, one.session_id, one.step)):
        session = action.user_id, action.session_id
        latest[session] = max(latest.get(session, 0), action.timestamp)
        times.append((latest[session], *session, action.step, action))
    return [
        Step(action, lists.get((user, session, step)) if action.action_type == CLICKOUT else None)
        for _, user, session, step, action in sorted(times, key=lambda row: row[:4])
    ]


def _rows(path: Path, kind: type[T]) -> Iterator[T]:
    decode, number, line = msgspec.json.Decoder(kind).decode, 0, b""
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                number += 1
                yield decode(line)
    except (OSError, EOFError) as error:
        raise ClickLogError(f"{path} cannot be read as gzip: {error}") from None
    except msgspec.DecodeError as error:
        raise ClickLogError(f"{path} line {number} is {line[:60]!r}; wished: {error}") from None
