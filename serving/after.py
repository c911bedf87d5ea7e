"""What a request may wait for: an event by its id, or by where Kafka put it."""

import re

from msgspec import Struct

from state.topics import topic_name

FOLLOWED = ("impressions", "clicks", "feedback", "users")
"""Kinds of events that move a visitor's record."""
_PLACE = re.compile(r"([^\s/,]+)/([0-9]{1,9})/([0-9]{1,19})")


class After(Struct, frozen=True):
    """A freshness token as understood.

    Attributes
    ----------
    event_id
        The event waited for; empty where the token names places instead.
    places
        Kind, partition and offset of each event waited for.
    """

    event_id: str = ""
    places: tuple[tuple[str, int, int], ...] = ()

    def belongs_to(self, shard: int) -> bool:
        """Return whether every place is in a shard's own partition.

        Elsewhere a worker passes the event on, and nobody can tell from its offset when it was folded.
        """
        return all(partition == shard for _, partition, _ in self.places)

    def kinds(self) -> list[str]:
        """Return the kinds of events waited for, each once."""
        return list(dict.fromkeys(kind for kind, _, _ in self.places))

    def is_reached(self, next_offsets: dict[str, int]) -> bool:
        """Return whether a shard that reads on from these offsets (kind -> offset) has folded all of it."""
        return all(next_offsets.get(kind, 0) > offset for kind, _, offset in self.places)


def read_after(token: str, namespace: str) -> After:
    """Return what a token names: ``TOPIC/PARTITION/OFFSET``, several of them with commas, or an event id."""
    topics = {topic_name(namespace, kind): kind for kind in FOLLOWED}
    found = [_PLACE.fullmatch(part) for part in token.split(",")]
    places = tuple(
        (topics[place[1]], int(place[2]), int(place[3])) for place in found if place and place[1] in topics
    )
    if len(places) == len(found):
        return After(places=places)
    return After(event_id=token)


def place_token(topic: str, partition: int, offset: int) -> str:
    """Return the token of an event that Kafka put somewhere."""
    return f"{topic}/{partition}/{offset}"
