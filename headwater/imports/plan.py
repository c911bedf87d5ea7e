"""What an import was asked to do, and where it tells how it goes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from headwater.imports.shape import Shape


class ImportFailed(RuntimeError):  # noqa: N818 - it is what became of the import
    """An import that cannot begin or go on; the message says why and what to do."""


class Plan(Struct, frozen=True):
    """What an import was asked to do.

    Attributes
    ----------
    shape
        What to make of each row.
    paths
        Files, in order.
    rate
        Rows a second at most; 0 for as many as go.
    ahead
        Records a partition may hold that no worker has folded; 0 for any number.
    max_rejected
        Rejected rows the import goes on with; None for any number.
    dry_run
        Whether only to look.
    again
        Whether to send all rows again, whatever is known to be done.
    """

    shape: Shape
    paths: Sequence[Path]
    rate: float = 0.0
    ahead: int = 2_000
    max_rejected: int | None = None
    dry_run: bool = False
    again: bool = False


class Screen(Protocol):
    """Where an import tells how it goes."""

    def fingerprinting(self, read: int, size: int) -> None:
        """Tell how much of the files was looked at."""

    def going(self, read: int, size: int, counts: Counter[str]) -> None:
        """Tell how much of the files is done."""

    def tell(self, sentence: str) -> None:
        """Say something that matters."""
