"""Parquet files of one partition: each covers a range of offsets and appears whole or not at all."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

_NAME = re.compile(r"p(\d{4})-(\d{20})-(\d{20})\.parquet")
_BATCH = 500
"""Rows decoded at a time."""
_MANIFEST = "export.json"


class ExportError(RuntimeError):
    """The folder cannot take this export; the text says why."""


class Manifest(Struct, frozen=True):
    """What a folder is an export of; another export may not be mixed into it."""

    namespace: str
    since: int
    until: int
    version: int = 1


def check_folder(into: Path, wished: Manifest) -> None:
    """Make the folder, or make sure that it holds the same export.

    Raises
    ------
    ExportError
        If it holds another one.
    """
    into.mkdir(parents=True, exist_ok=True)
    path = into / _MANIFEST
    if not path.exists():
        _replace(path, msgspec.json.encode(wished))
        return
    try:
        held = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise ExportError(f"{path} cannot be read ({error}); wished: an export's own manifest") from None
    for name in Manifest.__struct_fields__:
        if (met := getattr(held, name)) != (wish := getattr(wished, name)):
            raise ExportError(
                f"{into} holds an export with {name} {met!r}; wished: {wish!r}, or another folder"
            )


def next_offset(folder: Path, partition: int) -> int:
    """Return the offset after the last one that the files of a partition cover; 0 without files."""
    ends = [int(m[3]) + 1 for m in map(_NAME.fullmatch, _names(folder)) if m and int(m[1]) == partition]
    return max(ends, default=0)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.parquet")]


class PartitionFile:
    """One file being written; `keep` makes it appear, anything else leaves nothing but a ``.part``.

    Parameters
    ----------
    folder
        Of the topic's files.
    partition
        Which partition.
    schema
        Of the rows.
    first
        First offset it covers.
    """

    def __init__(self, folder: Path, partition: int, schema: Any, first: int) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415 an optional extra

        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._partition, self._schema, self._first = folder, partition, schema, first
        self._part = folder / f"p{partition:04}.part"
        self._writer = pq.ParquetWriter(self._part, schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.count = 0

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 an optional extra

        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def keep(self, last: int) -> Path:
        """Finish the file, which covers offsets up to ``last``, under its name."""
        self._flush()
        self._writer.close()
        path = self._folder / f"p{self._partition:04}-{self._first:020}-{last:020}.parquet"
        _sync(self._part)
        os.replace(self._part, path)
        return path

    def drop(self) -> None:
        """Give the file up."""
        self._writer.close()
        self._part.unlink(missing_ok=True)


def _replace(path: Path, raw: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(raw)
    _sync(part)
    os.replace(part, path)


def _sync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
