"""Small pictures and tables for the report, as text: inline SVG and HTML without scripts.

Colours are CSS variables of the page, so that the same drawing serves a light and a dark screen; every mark carries a
title that a pointer shows. Numbers stand beside the pictures: nothing is told by colour alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from sayso.evaluation.costs import Priced
from sayso.evaluation.metrics import Bin, Kept

_WIDTH, _HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 38


def histogram(values: Sequence[float], *, unit: str, label: str, bins: int = 20) -> str:
    """Counts of ``values`` (N > 0) in equal bins from 0 to the 99th percentile; what lies beyond joins the end bins."""
    top = max(float(np.quantile(values, 0.99)), 1e-9)
    counts, edges = np.histogram(np.clip(values, 0.0, top), bins=bins, range=(0.0, top))
    most = max(int(counts.max()), 1)
    bars = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        left, right, up = _x(low / top), _x(high / top), _y(count / most)
        tip = f"{low:.3g} to {high:.3g} {unit}: {count}"
        bars.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{up:.1f}" width="{max(right - left - 2, 1):.1f}" '
            f'height="{_y(0) - up:.1f}" rx="1"><title>{escape(tip)}</title></rect>'
        )
    ticks = [(share, f"{share * top:.3g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return _plot("".join(bars), ticks, [(0.0, "0"), (1.0, str(most))], f"{label} ({unit})", "clips")


def reliability(bins: Sequence[Bin]) -> str:
    """Share right against mean confidence, one dot a bin, its area the number of clips; honest dots lie on the line."""
    most = max((row.size for row in bins), default=1)
    diagonal = f'<line class="guide" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    dots = []
    for row in bins:
        tip = f"confidence {row.confidence:.2f}, right {row.accuracy:.2f}, {row.size} clips"
        radius = 3.0 + 6.0 * (row.size / most) ** 0.5
        dots.append(
            f'<circle class="dot" cx="{_x(row.confidence):.1f}" cy="{_y(row.accuracy):.1f}" r="{radius:.1f}">'
            f"<title>{escape(tip)}</title></circle>"
        )
    ticks = [(share, f"{share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return _plot(diagonal + "".join(dots), ticks, ticks, "confidence", "share right")


def risk_coverage(curve: Sequence[Kept], now: tuple[float, float] | None = None) -> str:
    """Share wrong of what is answered against share answered (N > 0); ``now``, such a point, is marked."""
    tip = f"{now[0]:.3f} answered, {now[1]:.3f} of these wrong" if now else ""
    return _by_coverage([(row.coverage, row.risk) for row in curve], now, tip, "wrong")


def cost_coverage(curve: Sequence[Priced], now: tuple[float, float]) -> str:
    """Mean cost of an utterance against share answered (N > 0); what was decided is marked."""
    tip = f"{now[0]:.3f} answered, at {now[1]:.3f} an utterance"
    return _by_coverage([(row.coverage, row.cost) for row in curve], now, tip, "cost")


def _by_coverage(curve: Sequence[tuple[float, float]], now: tuple[float, float] | None, tip: str, label: str) -> str:
    top = max([height for _, height in curve] + ([now[1]] if now else []) + [0.01])
    points = " ".join(f"{_x(coverage):.1f},{_y(height / top):.1f}" for coverage, height in curve)
    marks = [f'<polyline class="line" points="{points}"/>']
    if now is not None:
        dot = f'<circle class="dot" cx="{_x(now[0]):.1f}" cy="{_y(now[1] / top):.1f}" r="6">'
        marks.append(f"{dot}<title>{escape(tip)}</title></circle>")
    ticks = [(share, f"{share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return _plot("".join(marks), ticks, [(0.0, "0"), (0.5, f"{top / 2:.2g}"), (1.0, f"{top:.2g}")], "answered", label)


def confusion(counts: Mapping[tuple[str, str], int], *, limit: int = 30) -> str:
    """Expected (rows) against understood (columns); the ``limit`` most frequent names, the rest as ``(others)``."""
    often: Counter[str] = Counter()
    for (expected, got), count in counts.items():
        often.update({expected: count, got: count})
    kept = {name for name, _ in often.most_common(limit)}
    merged: Counter[tuple[str, str]] = Counter()
    for (expected, got), count in counts.items():
        merged[expected if expected in kept else "(others)", got if got in kept else "(others)"] += count
    rows = sorted({expected for expected, _ in merged}, key=_brackets_last)
    columns = sorted({got for _, got in merged} | set(rows), key=_brackets_last)
    head = "".join(f'<th class="up"><span>{escape(name)}</span></th>' for name in columns)
    body = []
    for expected in rows:
        total = sum(merged[expected, got] for got in columns)
        cells = "".join(_cell(expected, got, merged[expected, got], total) for got in columns)
        body.append(f"<tr><th>{escape(expected)}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table class="matrix"><thead><tr><th class="corner">expected \\ understood</th>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table that scrolls by itself on a narrow screen; ``numeric`` columns are set flush right. Text is escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="n"' if index in numeric else "" for index in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def _cell(expected: str, got: str, count: int, total: int) -> str:
    if not count:
        return "<td></td>"
    kind = "right" if expected == got else "wrong"
    strength = 12 + round(60 * count / total)
    tip = escape(f"{expected} understood as {got}: {count} of {total}", quote=True)
    return f'<td class="{kind}" style="--s:{strength}%" title="{tip}">{count}</td>'


def _brackets_last(name: str) -> tuple[bool, str]:
    return name.startswith("("), name


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _plot(
    marks: str, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str
) -> str:
    grid = "".join(
        f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(s):.1f}" y2="{_y(s):.1f}"/>' for s, _ in y_ticks
    )
    below = "".join(
        f'<text x="{_x(share):.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{escape(text)}</text>'
        for share, text in x_ticks
    )
    beside = "".join(
        f'<text x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for share, text in y_ticks
    )
    centre, half = (_x(0) + _x(1)) / 2, (_y(0) + _y(1)) / 2
    names = (
        f'<text x="{centre}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(11 {half}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    title = escape(f"{y_label} against {x_label}", quote=True)
    opening = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
    return f"{opening}{grid}{marks}{below}{beside}{names}</svg>"
