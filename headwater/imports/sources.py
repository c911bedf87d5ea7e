"""Files of history as rows, whatever their format; what cannot be read as a row says why."""

import csv
import gzip
import importlib.util
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from state.decoding import Refusal

LONGEST_LINE = 4 << 20
PARQUET_BATCH = 2_000
Found = bytes | dict[str, Any] | Refusal
"""A row as it stands in its file: a line of JSON, columns by name, or why it is no row."""
_UNREADABLE = (OSError, EOFError, zlib.error)


class SourceError(RuntimeError):
    """A file that cannot be read, or cannot be read on."""


class Source:
    """One file: JSON Lines, CSV with a header row, or Parquet; the first two may be compressed by gzip.

    Parameters
    ----------
    path
        Where it is; its name says its format.

    Raises
    ------
    SourceError
        If it is not there, or its name says no format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        suffixes = [suffix.lower() for suffix in path.suffixes]
        self._zipped = suffixes[-1:] == [".gz"]
        suffix = suffixes[-2:][0] if self._zipped and len(suffixes) > 1 else (suffixes or [""])[-1]
        readers = {".jsonl": _lines, ".ndjson": _lines, ".csv": _columns}
        self._is_parquet = suffix == ".parquet" and not self._zipped
        if not self._is_parquet and suffix not in readers:
            wished = ".jsonl, .ndjson or .csv, each also with .gz, or .parquet"
            raise SourceError(f"file {str(path)!r} has a name that says no format; wished: {wished}")
        if not path.is_file():
            raise SourceError(f"file {str(path)!r} is not there")
        if self._is_parquet and importlib.util.find_spec("pyarrow") is None:
            raise SourceError(f"file {str(path)!r} needs pyarrow: pip install 'headwater[parquet]'")
        self._reader = readers.get(suffix, _lines)
        self.size = path.stat().st_size
        self.position = 0

    def rows(self) -> Iterator[tuple[int, Found]]:
        """Give each row with its line number; of Parquet, its row number.

        Raises
        ------
        SourceError
            If the file is damaged; the rows before have been given.
        """
        line = 0
        try:
            with self.path.open("rb") as file:
                for line, found in self._open(file):
                    if line % 256 == 0:
                        self.position = self.size if file.closed else file.tell()
                    yield line, found
        except _UNREADABLE as error:
            raise SourceError(f"file {str(self.path)!r} cannot be read after line {line}: {error}") from error
        self.position = self.size

    def _open(self, file: IO[bytes]) -> Iterator[tuple[int, Found]]:
        if self._is_parquet:
            return _parquet(file, self.path)
        unzipped = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if self._zipped else file
        return self._reader(unzipped, self.path)


def _lines(file: IO[bytes], _: Path) -> Iterator[tuple[int, Found]]:
    line = 0
    while text := file.readline(LONGEST_LINE):
        line += 1
        if len(text) == LONGEST_LINE and not text.endswith(b"\n"):
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield line, Refusal("too_large", "value", text[:80], f"a line under {LONGEST_LINE} bytes")
        elif text := text.strip():
            yield line, text


def _columns(file: IO[bytes], path: Path) -> Iterator[tuple[int, Found]]:
    # What is no UTF-8 comes through as surrogates, which JSON may not hold: the row is refused, not the file.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text)
        yield from _table(reader, _header(reader, path))


def _table(reader: Any, header: Sequence[str]) -> Iterator[tuple[int, Found]]:
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, Refusal("malformed_csv", "value", None, f"a row of CSV ({error})")
            continue
        if len(values) == len(header):
            yield reader.line_num, dict(zip(header, values, strict=True))
        elif values:
            wished = f"{len(header)} columns, not {len(values)}"
            yield reader.line_num, Refusal("malformed_csv", "value", values, wished)


def _header(reader: Any, path: Path) -> list[str]:
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise SourceError(f"file {str(path)!r} has no header row: {error}") from None
    if not header or len(set(header)) < len(header):
        raise SourceError(f"file {str(path)!r} has columns {header}; wished: a header row of different names")
    return header


def _parquet(file: IO[bytes], path: Path) -> Iterator[tuple[int, Found]]:
    import pyarrow  # noqa: PLC0415 an optional extra
    from pyarrow import parquet  # noqa: PLC0415

    row = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=PARQUET_BATCH):
            for document in batch.to_pylist():
                row += 1
                yield row, document
    except pyarrow.ArrowException as error:
        raise SourceError(f"file {str(path)!r} cannot be read after row {row}: {error}") from error
