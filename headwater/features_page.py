"""``headwater features``: the page of the click models' features, generated from their registry."""

from collections.abc import Sequence
from pathlib import Path

import click

from headwater.console import finish
from online_models.features import Feature, FeatureRegistry
from online_models.hashing import BUCKETS
from online_models.ranking import ranking_registry

_HEAD = """# Features

What click models are told of a candidate: one registry, from which servers make the rows they log and lanes
learn them. Fingerprint `{fingerprint}`: rows logged under another one teach nothing. This page is written by
`headwater features`.

`ratio` and `flag` are cut to 0..1, `count` and `seconds` enter as log(1 + value), `score` as it is; a `code`
names a category by its hash, and weighs only in hashed crosses; an `offset` is what another model has
learnt, and weighs 1 for ever. `item` and `context` say nothing of one,
`session` what a visitor does now, `profile` what is kept of them: without consent it stays at its default.

"""
COLUMNS = ("name", "type", "source", "window", "default", "privacy class", "what")


def page() -> str:
    """Return the page's text."""
    registry = ranking_registry()
    crosses = [" x ".join(pair) for pair in registry.crosses]
    hashed = [" x ".join(parts) for parts in registry.hashed]
    table = f"one weight a joint value in a table of {BUCKETS:,}"
    return (
        _HEAD.format(fingerprint=registry.fingerprint())
        + "".join(f"{line}\n" for line in feature_table(registry))
        + f"\nCrosses, products of two features: {', '.join(crosses) or 'none'}.\n"
        + f"\nHashed crosses, {table}: {', '.join(hashed) or 'none'}.\n"
    )


def feature_table(registry: FeatureRegistry) -> list[str]:
    """Return the features of a registry as a table in Markdown, one line each."""
    return [_row(COLUMNS), "|" + "---|" * len(COLUMNS), *map(_line, registry.features)]


def _line(one: Feature) -> str:
    return _row((one.name, one.kind, one.source, one.window, f"{one.default:g}", one.privacy, one.about))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@click.command("features")
@click.option("--check", is_flag=True, help="Only compare; exits with 1 where the file is out of date.")
@click.option("--into", type=click.Path(path_type=Path), default=Path("docs/features.md"), show_default=True)
def features_page(*, check: bool, into: Path) -> None:
    """Write the table of the click models' features."""
    if not check:
        into.write_text(page(), encoding="utf-8")
        finish((True, [f"wrote {into}"]))
    same = into.exists() and into.read_text(encoding="utf-8") == page()
    finish((same, ["features page is up to date" if same else f"out of date: {into}"]))
