"""Control documents: what is in force, which versions were before, and what a change makes of them."""

from collections.abc import Mapping

from msgspec.structs import replace

from state.changing import now_in_force
from state.decoding import Refusal
from state.events import Control, encode
from state.exploration import (
    Document,
    Explorations,
    check_depth,
    check_step,
    decode_document,
    is_known_kind,
    kind_of,
    read_document,
    settings_of,
)
from state.keys import version_field
from state.retention import HISTORY_CAP


class ControlDocuments:
    """Current documents and their earlier versions.

    Parameters
    ----------
    stored, history
        Hashes as loaded.
    dwell_ms
        Event time between two changes of one name that are not forced.
    """

    def __init__(self, stored: Mapping[bytes, bytes], history: Mapping[bytes, bytes], dwell_ms: int) -> None:
        named = {name.decode(): raw for name, raw in stored.items()}
        self._current = {n: decode_document(n, raw) for n, raw in named.items() if is_known_kind(n)}
        self._history = {field.decode(): raw for field, raw in history.items()}
        self._dwell_ms = dwell_ms

    def is_known(self, event: Control) -> bool:
        """Return whether this change made the current document: a producer may send it twice."""
        current = self._current.get(event.name)
        return current is not None and current.change == event.event_id

    def now(self, event: Control) -> Document | None:
        """Return the document in force that a change meets; None of a kind nobody knows."""
        if not is_known_kind(event.name):
            return None
        return now_in_force(self._current.get(event.name) or kind_of(event.name)(), event.occurred_at)

    def change(self, event: Control) -> Document:
        """Return the document that a change makes, and keep it.

        Raises
        ------
        Refusal
            If the change is not allowed; nothing is kept then.
        """
        said = self._restored(event) if event.restores is not None else event.document
        wished = read_document(event.name, said)
        last = self._current.get(event.name) or kind_of(event.name)()
        now = now_in_force(last, event.occurred_at)
        _check(event, now)
        if isinstance(wished, Explorations) and isinstance(now, Explorations):
            if not event.forced and event.restores is None:
                check_step(now, wished, event.occurred_at, self._dwell_ms)
            wished = _dated(wished, now, event.occurred_at)
        document = replace(
            wished,
            version=last.version + 1,
            at=event.occurred_at,
            change=event.event_id,
            follows=now.version,
            changed_by=event.changed_by,
            why=event.why,
            forced=event.forced,
            restores=event.restores,
        )
        self._current[event.name] = document
        self._history[version_field(event.name, document.version)] = encode(document)
        self._history.pop(version_field(event.name, document.version - HISTORY_CAP), None)
        return document

    def _restored(self, event: Control) -> dict[str, object]:
        held = self._version(event.name, event.restores or 0)
        if held is None:
            raise Refusal(
                "unknown_version", "restores", event.restores, f"a version of {event.name} still kept"
            )
        # What comes back stays: its own time was counted from when it was made.
        return settings_of(held) | ({"ttl_s": None} if isinstance(held, Explorations) else {})

    def _version(self, name: str, version: int) -> Document | None:
        if not is_known_kind(name):
            return None
        if version == 0:
            return kind_of(name)()
        raw = self._history.get(version_field(name, version))
        return None if raw is None else decode_document(name, raw)


def _check(event: Control, now: Document) -> None:
    if event.expects is not None and event.expects != now.version:
        wished = f"{now.version}, the version in force: read it and change that"
        raise Refusal("version_conflict", "expects", event.expects, wished)
    if event.forced and not event.why.strip():
        raise Refusal("no_reason", "why", event.why, "why the bounds of steps are set aside")


def _dated(wished: Explorations, now: Explorations, at_ms: int) -> Explorations:
    """Return a document with what comes back after it, where its time is limited."""
    if wished.ttl_s is None:
        return wished
    check_depth(wished, now)
    return replace(wished, until=at_ms + round(wished.ttl_s * 1000), before=now)
