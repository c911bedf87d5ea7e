"""How far an import has come, in a small file beside its first file; and the rows it could not take."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct, field

from headwater.imports.shape import Shape
from state.decoding import Refusal

_BLOCK = 1 << 20
_rejected_encoder = msgspec.json.Encoder()


class Progress(Struct):
    """How far one import of one namespace has come.

    Attributes
    ----------
    fingerprint
        Of its files and how they are read.
    row
        Rows, from the first file's first, that Kafka has acknowledged or that were not to be sent.
    offsets
        Partition -> offset after the last record sent there; a log that ends before has lost them.
    counts
        What became of the rows.
    complete
        Whether all rows are done.
    """

    fingerprint: str
    row: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    complete: bool = False


def progress_path(first: Path, namespace: str, name: str) -> Path:
    """Return where the progress of an import is kept."""
    return first.with_name(f"{first.name}.{namespace}.{name}.progress.json")


def read_progress(path: Path) -> Progress | None:
    """Return stored progress; None where there is none, or none that can be read: sending again is safe."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_progress(path: Path, progress: Progress) -> None:
    """Store progress, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(progress))
    os.replace(fresh, path)


def fingerprint_of(shape: Shape, paths: Sequence[Path]) -> Iterator[str | int]:
    """Give the number of bytes read so far, again and again, and at last the fingerprint itself."""
    digest = hashlib.blake2b(msgspec.json.encode(shape, order="deterministic"), digest_size=8)
    for path in paths:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                yield len(block)
    yield digest.hexdigest()


class RejectedRow(Struct, omit_defaults=True):
    """One row that could not be taken."""

    line: int
    row: int
    reason: str
    field: str
    value: str
    wished: str


class Rejected:
    """Writes the rows of one file that could not be taken to ``FILE.rejected.jsonl``.

    Parameters
    ----------
    source
        The file of history.
    done
        Rows before the point the import goes on from: what was said of later ones is said again.
    """

    def __init__(self, source: Path, done: int) -> None:
        self.path = source.with_name(f"{source.name}.rejected.jsonl")
        self._file: IO[bytes] | None = None
        self._trim(done)

    def _trim(self, done: int) -> None:
        if not self.path.exists():
            return
        kept = [line for line in self.path.read_bytes().splitlines(keepends=True) if _row(line) <= done]
        if not kept:
            self.path.unlink()
            return
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_bytes(b"".join(kept))
        os.replace(fresh, self.path)

    def add(self, line: int, row: int, refusal: Refusal) -> None:
        """Write one row."""
        if self._file is None:
            self._file = self.path.open("ab")
        told = RejectedRow(line, row, refusal.reason, refusal.field, refusal.value, refusal.wished)
        self._file.write(_rejected_encoder.encode(told) + b"\n")

    def flush(self) -> None:
        """Make what was written outlive this process."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _row(line: bytes) -> int:
    """Return the row a line speaks of; one that a crash cut off is dropped, for it will be said again."""
    try:
        told: Any = msgspec.json.decode(line, type=RejectedRow)
    except msgspec.DecodeError:
        return 1 << 62
    return int(told.row)
