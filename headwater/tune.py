"""``headwater tune``: settings of the recommender from a tenant's own recent clicks, where surely better.

The log is cut by time. The search predicts and learns the part before the last; the last part judges what it
found beside the settings in force, once. A change whose gain may be chance is not recommended.
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from msgspec import Struct
from redis.exceptions import RedisError

from headwater.console import become_service, command_settings, finish
from headwater.evaluation.clicks import UNIX_MS, ClickLogError, Clicks, read_stream
from headwater.evaluation.measures import NAMES, difference, half_widths
from headwater.evaluation.search import Course, Knob, Outcome, Search, Step, grouped
from headwater.evaluation.tuned import Changes, changed, environment_lines, in_force, of_server
from headwater.stored_sessions import clicks_of, read_sessions, write_log
from online_models.retrieval import RecommenderSettings, warm_up
from state.settings import Settings, SettingsError

FEWEST = 300
"""Clicks to predict in a part, below which nothing can be told."""
SEARCHED, JUDGED = 3_000, 20_000
"""Clicks predicted by each try, and by the final judgement, where the log has as many."""


_TOLD = {"hr20": "HR@20", "mrr20": "MRR@20"}


class Wish(Struct, frozen=True):
    """What was asked of a tuning run."""

    measure: str = "mrr20"
    tries: int = 60
    part: float = 0.2
    clicks: int = 300_000
    seed: int = 1


class Verdict(Struct):
    """What a tuning run found.

    Attributes
    ----------
    values
        What differs from the settings in force; none where the search found nothing better.
    now, tuned
        Every measure on the last part of the log, with the half width of its 95 % interval.
    gain, width
        Mean of the measure that counts, tuned less now, click by click, and its half width.
    """

    values: dict[Knob, float]
    now: dict[str, Any]
    tuned: dict[str, Any]
    gain: float
    width: float

    @property
    def recommended(self) -> bool:
        """Whether the interval of the gain lies above zero."""
        return bool(self.values) and self.gain - self.width > 0


@click.command("tune")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with stream.tsv.gz, or train and test; the namespace's stored sessions otherwise.",
)  # fmt: skip
@click.option("--measure", type=click.Choice(NAMES), default="mrr20", show_default=True, help="What counts.")
@click.option("--tries", type=click.IntRange(1, 10_000), default=60, show_default=True, help="At most.")
@click.option(
    "--part", type=click.FloatRange(0.05, 0.4), default=0.2, show_default=True,
    help="Share of the clicks that judges, and share before it that is searched on.",
)  # fmt: skip
@click.option(
    "--clicks", type=click.IntRange(1_000), default=300_000, show_default=True,
    help="Of the log, the latest ones.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of the sessions predicted.")
@click.option(
    "--save", type=click.Path(path_type=Path, dir_okay=False), help="Write what is recommended here."
)
@click.option("--json", "report", type=click.Path(path_type=Path, dir_okay=False), help="All figures.")
@click.option(
    "--log-into", type=click.Path(path_type=Path, file_okay=False),
    help="Also write the stored sessions as stream.tsv.gz, for python -m benchmarks.sessions.",
)  # fmt: skip
def tune(
    data: Path | None, save: Path | None, report: Path | None, log_into: Path | None, **options: Any
) -> None:
    """Find settings that predict a tenant's own clicks better, as environment variables for the servers.

    Nothing in the store or on the servers is changed. Without --data the sessions of HEADWATER_NAMESPACE are
    read from HEADWATER_REDIS, once.
    """
    become_service()
    settings, wish = command_settings(), Wish(**options)
    try:
        base, clicks = of_server(settings), _log(settings, data, log_into)
        verdict = tuned(base, clicks, wish)
    except (SettingsError, ClickLogError, RedisError, OSError) as error:
        raise click.ClickException(str(error)) from None
    lines = told(verdict, wish.measure, in_force(settings))
    if save is not None and verdict.recommended:
        save.write_text("\n".join(_file(verdict, wish, clicks, in_force(settings))) + "\n", encoding="utf-8")
        lines.append(f"written to {save}")
    if report is not None:
        report.write_text(json.dumps(_document(verdict, wish, clicks), indent=1), encoding="utf-8")
    finish((True, lines))


def _log(settings: Settings, data: Path | None, log_into: Path | None) -> Clicks:
    if data is not None:
        return read_stream(data).rest
    sessions = asyncio.run(read_sessions(settings))
    if log_into is not None:
        click.echo(f"stored sessions written to {write_log(sessions, log_into)}")
    return clicks_of(sessions)


def tuned(base: RecommenderSettings, clicks: Clicks, wish: Wish) -> Verdict:
    """Search on the part before the last, and judge what was found on the last.

    Raises
    ------
    ClickLogError
        If the log is too short to tell anything.
    """
    searched, judged = courses(clicks, wish)
    parts = len(searched.clicks) - searched.first, len(judged.clicks) - judged.first
    click.echo(f"{len(judged.clicks):,} clicks, {_span(judged.clicks)}; seed {wish.seed}")
    click.echo(f"searched on {parts[0]:,} of them, judged on the last {parts[1]:,}")
    warm_up()
    found = Search(base, searched.run, wish.measure, wish.tries).run(_said)
    return _verdict(base, found, judged, wish.measure)


def courses(clicks: Clicks, wish: Wish) -> tuple[Course, Course]:
    """Return what is searched on and what judges: the first has no click of the part that judges."""
    latest = clicks.part(slice(-wish.clicks, None))
    begin, middle = (round(len(latest) * (1 - share * wish.part)) for share in (2, 1))
    searched = _course(latest.part(slice(0, middle)), begin, SEARCHED, wish.seed)
    return searched, _course(latest, middle, JUDGED, wish.seed)


def _course(clicks: Clicks, first: int, enough: int, seed: int) -> Course:
    _, at = np.unique(clicks.sessions, return_index=True)
    follows = len(clicks) - first - int((at >= first).sum())
    if follows < FEWEST:
        raise ClickLogError(
            f"the log has {max(0, follows)} clicks to predict in a part; wished: at least {FEWEST}"
        )
    return Course(clicks, first, min(1.0, enough / follows), seed)


def _span(clicks: Clicks) -> str:
    first, last = int(clicks.at_ms.min()), int(clicks.at_ms.max())
    if first < UNIX_MS:
        return f"order {first // 1000} to {last // 1000}"
    days = (f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M}" for at in (first, last))
    return " to ".join(days) + " UTC"


def _said(step: Step) -> None:
    changes = " ".join(f"{setting}.{name}={value:g}" for (setting, name), value in step.values.items())
    click.echo(f"  {'kept ' if step.kept else 'tried'} {step.mean:.4f}  {changes}")


def _verdict(base: RecommenderSettings, found: dict[Knob, float], judged: Course, measure: str) -> Verdict:
    now = judged.run(base)
    if not found:
        return Verdict({}, _measured(now), _measured(now), 0.0, 0.0)
    tuned_ = judged.run(changed(base, grouped(found)))
    gap, width = difference(now.values, tuned_.values, now.sessions)
    column = NAMES.index(measure)
    return Verdict(found, _measured(now), _measured(tuned_), float(gap[column]), float(width[column]))


def _measured(outcome: Outcome) -> dict[str, Any]:
    widths = half_widths(outcome.values, outcome.sessions).tolist()
    named = dict(zip(NAMES, outcome.values.mean(axis=0).tolist(), strict=True))
    return {
        "n": len(outcome.values),
        **named,
        **{f"{name}_ci95": width for name, width in zip(NAMES, widths, strict=True)},
        **outcome.costs,
    }


def told(verdict: Verdict, measure: str, held: Changes) -> list[str]:
    """Return what a run found, as lines; `held` is what the environment changes already."""
    lines = [_line("settings in force", verdict.now), _line("tuned", verdict.tuned)]
    if not verdict.values:
        return [*lines[:1], "nothing better was found: keep the settings in force"]
    low, high = verdict.gain - verdict.width, verdict.gain + verdict.width
    lines.append(f"gain in {measure} on the last part: {verdict.gain:+.4f} [{low:+.4f}, {high:+.4f}]")
    if not verdict.recommended:
        return [*lines, "the interval includes zero: keep the settings in force"]
    return [*lines, "recommended:", *environment_lines(grouped(verdict.values), held)]


def _line(name: str, one: dict[str, Any]) -> str:
    worth = " ".join(f"{told} {one[m]:.4f} +-{one[m + '_ci95']:.4f}" for m, told in _TOLD.items())
    costs = f"us/update {one['update_us_p50']:.0f}  us/query {one['query_us_p50']:.0f}"
    return f"{name:<18} n {one['n']:>6}  {worth}  {costs}"


def _file(verdict: Verdict, wish: Wish, clicks: Clicks, held: Changes) -> list[str]:
    low, high = verdict.gain - verdict.width, verdict.gain + verdict.width
    return [
        f"# headwater tune, {_span(clicks)}: {wish.measure} {verdict.gain:+.4f} [{low:+.4f}, {high:+.4f}]",
        *environment_lines(grouped(verdict.values), held),
    ]


def _document(verdict: Verdict, wish: Wish, clicks: Clicks) -> dict[str, Any]:
    return {
        "measure": wish.measure,
        "seed": wish.seed,
        "range": _span(clicks),
        "recommended": verdict.recommended,
        "changes": grouped(verdict.values),
        "gain": verdict.gain,
        "gain_ci95": verdict.width,
        "settings_in_force": verdict.now,
        "tuned": verdict.tuned,
    }
