"""The dashboard page: one file, no outside assets, polling ``/v1/stats``."""

from functools import cache
from importlib.resources import files


@cache
def dashboard_page() -> str:
    """Return the page's HTML."""
    return files("serving").joinpath("dashboard.html").read_text(encoding="utf-8")
