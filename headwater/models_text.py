"""What is known of models, as lines in columns."""

from collections.abc import Iterator, Mapping, Sequence

from headwater.console import moment
from state.models import Evidence, HeadFacts, Lifecycle, SegmentFacts

_CLICK = "click"


def listed(surfaces: Mapping[str, Mapping[int, Lifecycle]]) -> list[str]:
    """Return one line for each surface and lane."""
    if not surfaces:
        return ["no model has learnt anything yet"]
    head = (
        "surface",
        "lane",
        "champion",
        "kind",
        "rows",
        "log loss",
        "base",
        "auc",
        "ece",
        "shadows",
        "alarms",
    )
    rows = [
        (
            surface,
            str(lane),
            str(life.champion or "-"),
            *_listed(life),
            ", ".join(life.shadows) or "-",
            _alarms(life),
        )
        for surface, lanes in surfaces.items()
        for lane, life in lanes.items()
    ]  # fmt: skip
    return columns([head, *rows])


def _listed(life: Lifecycle) -> tuple[str, ...]:
    click = life.heads.get(_CLICK)
    if click is None:
        return ("-",) * 6
    measures = (click.log_loss, click.base_log_loss, click.window_auc, click.calibration_error)
    return click.kind, f"{click.rows:,}", *(f"{value:.4f}" for value in measures)


def _alarms(life: Lifecycle) -> str:
    click = life.heads.get(_CLICK)
    return str(click.calibration_alarms + click.loss_alarms) if click else "0"


def described(surface: str, lanes: Mapping[int, Lifecycle]) -> list[str]:
    """Return everything known of a surface's models."""
    lines: list[str] = []
    for lane, life in lanes.items():
        champion = f"{surface}, lane {lane}: champion of version {life.champion or '-'}"
        span = f"{life.outcomes:,} outcomes since {moment(life.began)}, measured {moment(life.updated)}"
        lines += [f"{champion}, {span}; promotions {life.promotes}", ""]
        lines += [*heads_table(life.heads), "", *segments_table(life.segments), ""]
        lines += [*_shadows(life), "", *_versions(life), "", *history(life), ""]
    return lines[:-1]


def heads_table(heads: Mapping[str, HeadFacts]) -> list[str]:
    """Return measures of each head."""
    head = (
        "head", "kind", "rows", "rate", "log loss", "base", "recent", "auc", "promised/came", "ece",
        "ece before", "slope", "shift", "memory",
    )  # fmt: skip
    rows = [
        (
            name, one.kind, f"{one.rows:,}", f"{one.rate:.4f}", f"{one.log_loss:.4f}",
            f"{one.base_log_loss:.4f}", f"{one.window_log_loss:.4f}", f"{one.window_auc:.4f}",
            f"{one.calibration:.3f}", f"{one.calibration_error:.4f}", f"{one.raw_calibration_error:.4f}",
            f"{one.correction[0]:.3f}",
            f"{one.correction[1]:+.3f}", f"{one.memory_rows:,.0f}",
        )
        for name, one in heads.items()
    ]  # fmt: skip
    return columns([head, *rows])


def segments_table(segments: Sequence[SegmentFacts]) -> list[str]:
    """Return measures of each segment."""
    head = ("segment", "rows", "clicks", "rate", "promised/came", "log loss")
    rows = [
        (
            one.name, f"{one.rows:,.0f}", f"{one.clicks:,.0f}", f"{one.clicks / one.rows:.4f}",
            f"{one.calibration:.3f}", f"{one.log_loss:.4f}",
        )
        for one in sorted(segments, key=lambda one: (one.name.partition(":")[0], -one.rows))
    ]  # fmt: skip
    return columns([head, *rows])


def _shadows(life: Lifecycle) -> list[str]:
    if not life.shadows:
        return ["no shadow runs"]
    head = ("shadow", "kind", "since", "outcomes", "log loss", "less champion's", "interval", "verdict")
    rows = [
        (
            name,
            *_clicks(one.heads),
            moment(one.since),
            f"{one.evidence.outcomes:,}",
            *_compared(one.heads, one.evidence),
        )
        for name, one in life.shadows.items()
    ]
    return columns([head, *rows])


def _clicks(heads: Mapping[str, HeadFacts]) -> tuple[str]:
    return (heads[_CLICK].kind if _CLICK in heads else "-",)


def _compared(heads: Mapping[str, HeadFacts], evidence: Evidence) -> tuple[str, str, str, str]:
    loss = f"{heads[_CLICK].window_log_loss:.4f}" if _CLICK in heads else "-"
    return loss, f"{evidence.mean:+.5f}", interval(evidence), verdict(evidence)


def interval(evidence: Evidence) -> str:
    """Return the ends of an interval."""
    if evidence.low is None or evidence.high is None:
        return "-"
    return f"[{evidence.low:+.5f}, {evidence.high:+.5f}]"


def verdict(evidence: Evidence) -> str:
    """Return what an interval says."""
    if evidence.low is None or evidence.high is None:
        return "too few outcomes"
    if evidence.high < 0:
        return "better"
    return "worse" if evidence.low > 0 else "undecided"


def _versions(life: Lifecycle) -> list[str]:
    if not life.versions:
        return ["no version is kept yet"]
    head = ("version", "name", "kept", "rows", "log loss", "offset", "crc32", "for")
    rows = [
        (
            str(one.number), one.label or "-", moment(one.at), f"{one.rows:,}", f"{one.log_loss:.4f}",
            str(one.offset), f"{one.checksum:08x}", one.why,
        )
        for one in life.versions
    ]  # fmt: skip
    return columns([head, *rows])


def history(life: Lifecycle) -> list[str]:
    """Return what was done and refused, one a line, oldest first."""
    return [
        f"{moment(one.at)}  {one.what}{'' if one.done else ' refused'}: {one.detail}"
        + (f"  ({one.by or 'somebody'}: {one.why or 'no reason given'})" if one.asked else "")
        for one in life.steps
    ] or ["nothing was done yet"]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines in columns, the first flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    def cells() -> Iterator[str]:
        yield row[0].ljust(widths[0])
        yield from map(str.rjust, row[1:], widths[1:])

    return "  ".join(cells()).rstrip()
