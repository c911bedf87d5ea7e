"""Bar charts as SVG, without a plotting library."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_ROW, _LEFT, _WIDTH = 26, 150, 420


def bars(folder: Path, reports: dict[str, dict[str, Any]]) -> None:
    """Write one chart per measure into `folder`, one bar per model."""
    folder.mkdir(parents=True, exist_ok=True)
    for measure in ("hr20", "mrr20", "ndcg20"):
        values = {name: float(report[measure]) for name, report in reports.items() if measure in report}
        if values:
            (folder / f"{measure}.svg").write_text(_chart(measure, values), encoding="utf-8")


def _chart(measure: str, values: dict[str, float]) -> str:
    most = max(values.values()) or 1.0
    rows = [_bar(n, name, value, most) for n, (name, value) in enumerate(values.items(), start=1)]
    height = _ROW * (len(values) + 1) + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 80}" height="{height}"'
    title = f'<text x="10" y="18" font-weight="bold">{escape(measure)}</text>'
    return f'{head} font-family="sans-serif" font-size="13">{title}{"".join(rows)}</svg>\n'


def _bar(n: int, name: str, value: float, most: float) -> str:
    y, width = n * _ROW, _WIDTH * value / most
    return (
        f'<text x="10" y="{y + 16}">{escape(name)}</text>'
        f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 8}" fill="#4477aa"/>'
        f'<text x="{_LEFT + width + 6:.1f}" y="{y + 16}">{value:.4f}</text>'
    )
