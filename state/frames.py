"""A file of MessagePack frames behind a version, with a checksum over all of them at its end."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

MAGIC = b"headwater-snapshot\n"
VERSION = 1
_LENGTH = struct.Struct("<I")
_MOST = 512 * 1024 * 1024
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class FrameError(ValueError):
    """A file that is not what was written."""


class FrameWriter:
    """Writes frames to a file that appears under its name only when it is whole.

    Parameters
    ----------
    path
        Where the file goes.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._digest = hashlib.blake2b(digest_size=32)
        self.frames = self.bytes = 0

    def write(self, frame: Any) -> None:
        """Append one frame."""
        body = _encode(frame)
        self._digest.update(_LENGTH.pack(len(body)) + body)
        self._put(body)
        self.frames += 1

    def _put(self, body: bytes) -> None:
        self._file.write(_LENGTH.pack(len(body)))
        self._file.write(body)
        self.bytes += _LENGTH.size + len(body)

    def __enter__(self) -> Self:
        self._file: IO[bytes] = self._part.open("wb")
        self._file.write(MAGIC)
        self.write(["version", VERSION])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._put(_encode(["end", self.frames, self._digest.digest()]))
        self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


def read_frames(path: Path) -> Iterator[list[Any]]:
    """Yield the frames of a file, and check version, length and checksum on the way.

    Raises
    ------
    FrameError
        If the file is not whole or not one of ours; whatever was yielded before may be wrong too.
    """
    digest, frames = hashlib.blake2b(digest_size=32), 0
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise FrameError(f"file {path} does not begin as a snapshot does")
        while True:
            head, body = _read_one(path, file)
            frame = _decoded(path, body)
            if frame[0] == "end":
                _check_end(path, frame, frames, digest.digest())
                return
            digest.update(head + body)
            if frames == 0 and frame != ["version", VERSION]:
                raise FrameError(f"file {path} has version {frame[1:]}; wished: {VERSION}")
            if frames:
                yield frame
            frames += 1


def _read_one(path: Path, file: IO[bytes]) -> tuple[bytes, bytes]:
    head = file.read(_LENGTH.size)
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _MOST + 1
    body = file.read(size) if size <= _MOST else b""
    if size > _MOST or len(body) < size:
        raise FrameError(f"file {path} is cut short or damaged at byte {file.tell()}")
    return head, body


def _decoded(path: Path, body: bytes) -> list[Any]:
    try:
        frame = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"file {path} holds a frame that cannot be read ({error})") from None
    if not isinstance(frame, list) or not frame:
        raise FrameError(f"file {path} holds a frame of type {type(frame).__name__}; wished: a list")
    return frame


def _check_end(path: Path, frame: list[Any], frames: int, digest: bytes) -> None:
    if frame[1:] != [frames, digest]:
        raise FrameError(f"file {path} has {frames} frames whose checksum is not the one at its end")


def check_file(path: Path) -> bytes:
    """Read a whole file and return its digest.

    Raises
    ------
    FrameError
        If it is not whole or not one of ours.
    """
    for _ in read_frames(path):
        pass
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
