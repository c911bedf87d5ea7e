"""Fetch the broker's jars once a version, into a folder that git ignores."""

import hashlib
import shutil
import subprocess
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
PROFILES = ("4.x", "3.9.x")
FETCH_TIMEOUT_S = 900


class KafkaUnavailableError(RuntimeError):
    """Apache Kafka cannot be fetched or run on this machine."""


def program(name: str) -> str:
    """Return the path of `java` or `mvn`."""
    found = shutil.which(name)
    if found is None:
        raise KafkaUnavailableError(
            f"{name} is not on the PATH: Java 17 and Maven are needed to run Apache Kafka"
        )
    return found


def fetch_jars(version: str) -> Path:
    """Return the folder with the jars of a version, fetched by Maven on first use.

    Parameters
    ----------
    version : str
        ``4.x`` or ``3.9.x`` as the POM pins them, or an exact version such as ``4.3.1``.
    """
    folder = CACHE / version
    stamp = folder / "complete"
    wished = hashlib.sha256(POM.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wished:
        shutil.rmtree(folder, ignore_errors=True)
        _copy_dependencies(version, folder)
        stamp.write_text(wished)
    return folder


def _copy_dependencies(version: str, folder: Path) -> None:
    choice = f"-P{version}" if version in PROFILES else f"-Dkafka.version={version}"
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    command = [program("mvn"), "-q", "-B", "-f", str(POM), choice, *goal]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise KafkaUnavailableError(
            f"Maven cannot fetch Kafka {version}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )
