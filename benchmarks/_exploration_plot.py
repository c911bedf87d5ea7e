"""Charts of a run of the exploration guide as PNG: previews by rate, and shadows as evidence grows."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_NOW, _OTHERS = "#1b6ca8", ("#c2553f", "#4f8a5b", "#8a6bb0", "#b08a3e")


def draw(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write `preview.png` and `scoreboard.png`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {"preview": _previews(report["previews"]), "scoreboard": _boards(report["boards"])}
    for name, figure in charts.items():
        figure.savefig(folder / f"{name}.png", dpi=90)
    return [folder / f"{name}.png" for name in charts]


def _previews(previews: list[dict[str, Any]]) -> Figure:
    told = [one["overall"] for one in previews if one["is_decidable"]]
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    decisions, explored = told[0]["decisions"], told[0]["explored"]
    figure.suptitle(f"What other rates would earn: {decisions:,} decisions, {explored:,} of which explored")
    left, right = figure.subplots(1, 2)
    rates = [one["rate"] for one in told]
    for axes, name, label in ((left, "reward", "reward a decision"), (right, "change", "change of it")):
        values = [one.get(name) or {"value": 0.0, "low": 0.0, "high": 0.0} for one in told]
        axes.fill_between(
            rates, [v["low"] for v in values], [v["high"] for v in values], color=_NOW, alpha=0.2
        )
        axes.plot(rates, [v["value"] for v in values], "o-", color=_NOW)
        axes.axvline(told[0]["rate_now"], color="grey", linestyle=":", label="rate in force")
        axes.set_xlabel("share of slots that explore")
        axes.set_ylabel(f"{label}, 95 % interval")
        axes.grid(alpha=0.3)
    right.axhline(0.0, color="grey", linewidth=0.8)
    left.legend(frameon=False)
    return figure


def _boards(boards: list[dict[str, Any]]) -> Figure:
    names = sorted({one["shadow"] for board in boards for one in board["shadows"]})
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    figure.suptitle("Shadow policies beside the one in force: intervals that hold at every look")
    axes = figure.subplots()
    for colour, name in zip(_OTHERS, names, strict=False):
        seen = [one for board in boards for one in board["shadows"] if one["shadow"] == name]
        _band(axes, [one for one in seen if one.get("reward")], "reward", colour, name)
    first = [one for board in boards for one in board["shadows"][:1] if one.get("live")]
    _band(axes, first, "live", "black", "in force")
    axes.set_xlabel("closed decisions")
    axes.set_ylabel("reward a decision")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _band(axes: Any, seen: list[dict[str, Any]], what: str, colour: str, label: str) -> None:
    if not seen:
        return
    n = [one["decisions"] for one in seen]
    axes.plot(n, [one[what]["value"] for one in seen], "o-", color=colour, label=label)
    axes.fill_between(n, [one[what]["low"] for one in seen], [one[what]["high"] for one in seen],
                      color=colour, alpha=0.12)  # fmt: skip
