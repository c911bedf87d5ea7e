"""``headwater retention``: the page of how long everything is kept, generated from `state/retention.py`."""

from pathlib import Path

import click

from headwater.console import finish
from state.retention import DAY_MS, FOR_EVER, Kept, retention
from state.settings import PREFIX

_TIMES = ("retention.ms", "compaction", "TTL", "event time")
_HEAD = """# Retention

How long everything is kept under the default settings, and what makes it go. Times are of the broker for
topics, of the store's clock for TTLs (they only collect garbage) and of events for everything else.
`headwater topics check` compares the topics with this table. This page is written by `headwater retention`.

| where | what | limit | by which means | setting | note |
|---|---|---|---|---|---|
"""
_FOOT = """
Counters, click models and control documents grow with the names of surfaces, which are yours to choose;
`meta` grows with topics and shards; the catalogue is what you publish. All else has a bound of its own.
"""


def page() -> str:
    """Return the page's text."""
    return _HEAD + "".join(map(_line, retention())) + _FOOT


def _line(row: Kept) -> str:
    setting = f"`{PREFIX}{row.setting.upper()}`" if row.setting else ""
    return f"| {row.where} | {row.name} | {_limit(row)} | {row.means} | {setting} | {row.note} |\n"


def _limit(row: Kept) -> str:
    if row.limit == FOR_EVER:
        return "for ever"
    if row.limit is None:
        return ""
    if row.means not in _TIMES:
        return f"{row.limit:,}"
    days, minutes = row.limit / DAY_MS, row.limit / 60_000
    return f"{days:,.0f} days" if days >= 1 else f"{minutes:g} min"


@click.command("retention")
@click.option("--check", is_flag=True, help="Only compare; exits with 1 where the file is out of date.")
@click.option("--into", type=click.Path(path_type=Path), default=Path("docs/retention.md"), show_default=True)
def retention_page(*, check: bool, into: Path) -> None:
    """Write the table of how long everything is kept."""
    if not check:
        into.write_text(page(), encoding="utf-8")
        finish((True, [f"wrote {into}"]))
    same = into.exists() and into.read_text(encoding="utf-8") == page()
    finish((same, ["retention page is up to date" if same else f"out of date: {into}"]))
