"""Charts of a run as PNG: all models with their intervals, and the engine's segments beside V-SKNN's."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MEASURES = {"hr20": "HR@20", "mrr20": "MRR@20", "ndcg20": "NDCG@20"}
_ENGINE, _OTHER = "#1b6ca8", "#9aa5b1"


def draw(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write `models.png`, `segments.png` and, where time is cut into parts, `parts.png`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"models": _models(report), "segments": _segments(report), "parts": _parts(report)}
    written = []
    for name, figure in charts.items():
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=120)
            written.append(folder / f"{name}.png")
    return written


def _title(report: dict[str, Any], what: str) -> str:
    run = report["run"]
    return f"{run['data']}, {run['protocol']}: {what} (n = {report['n']:,}, seed {run['seed']})"


def _models(report: dict[str, Any]) -> Figure:
    rows = {"engine": report} | {
        f"engine, {name}": report[name] for name in ("tuned", "served") if name in report
    }
    rows |= report["baselines"]
    figure = Figure(figsize=(12, 1.6 + 0.42 * len(rows)), layout="constrained")
    figure.suptitle(_title(report, "every model, 95 % intervals"))
    for place, (axes, (measure, label)) in enumerate(
        zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES.items(), strict=True)
    ):
        _bars(axes, rows, measure)
        axes.set_xlabel(label)
        if place == 0:
            axes.set_yticks(range(len(rows)), list(rows))
            axes.invert_yaxis()
    return figure


def _bars(axes: Axes, rows: dict[str, dict[str, Any]], measure: str) -> None:
    values = [row.get(measure, 0.0) for row in rows.values()]
    errors = [row.get(f"{measure}_ci95", 0.0) for row in rows.values()]
    colors = [_ENGINE if name.startswith("engine") else _OTHER for name in rows]
    axes.barh(range(len(rows)), values, xerr=errors, color=colors, height=0.7, capsize=2)
    for place, (value, error) in enumerate(zip(values, errors, strict=True)):
        axes.annotate(
            f"{value:.3f}", (value + error, place), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    axes.set_xlim(0, max(map(sum, zip(values, errors, strict=True)), default=1.0) * 1.25 or 1.0)
    axes.spines[["top", "right"]].set_visible(False)


def _segments(report: dict[str, Any]) -> Figure | None:
    rival = report["baselines"].get("v_sknn", {}).get("segments", {})
    names = [name for name in report.get("segments", {}) if not name.startswith(("period_", "bucket_"))]
    if not names:
        return None
    figure = Figure(figsize=(9, 1.4 + 0.46 * len(names)), layout="constrained")
    figure.suptitle(_title(report, "HR@20 by segment"))
    axes = figure.subplots()
    for shift, (label, held, color) in zip(
        (-0.2, 0.2), (("engine", report["segments"], _ENGINE), ("V-SKNN", rival, _OTHER)), strict=True
    ):
        found = [(n + shift, held[name]) for n, name in enumerate(names) if name in held]
        if found:
            axes.barh(
                [place for place, _ in found], [part["hr20"] for _, part in found], height=0.38, color=color,
                xerr=[part["hr20_ci95"] for _, part in found], label=label, capsize=2,
            )  # fmt: skip
    labels = [f"{name.replace('_', ' ')}  (n = {report['segments'][name]['n']:,})" for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("HR@20")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _parts(report: dict[str, Any]) -> Figure | None:
    kind = next((n.split("_")[0] for n in report.get("segments", {}) if n[:7] in ("period_", "bucket_")), "")
    if not kind:
        return None
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    figure.suptitle(_title(report, f"HR@20 by {kind}"))
    axes = figure.subplots()
    for place, (name, held) in enumerate({"engine": report, **report["baselines"]}.items()):
        parts = {int(k.split("_")[1]): v for k, v in held.get("segments", {}).items() if k.startswith(kind)}
        is_engine = name == "engine"
        axes.plot(
            list(parts), [part["hr20"] for part in parts.values()], label=name, marker="o",
            color=_ENGINE if is_engine else f"C{place}", linewidth=2.4 if is_engine else 1.2, markersize=3,
        )  # fmt: skip
    axes.set_xlabel(kind)
    axes.set_ylabel("HR@20")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure
