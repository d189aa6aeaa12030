"""A scatter plot as SVG, by hand: the same bytes wherever it is drawn, and no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TypeAlias

Point: TypeAlias = tuple[float, float, str, bool]
"""x, y, a label or nothing, and whether it is on the front."""

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50
TICKS = 6


class Axis:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        low, high = min(values), max(values)
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        self.low, self.high = low - margin, high + margin
        self.first, self.last = first, last

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 2)

    def ticks(self) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten within the axis, about ``TICKS``."""
        least = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(least))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= least)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [i * step for i in range(first, last + 1)]


def scatter(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    x_limit: float | None = None,
    y_limit: float | None = None,
) -> str:
    """An SVG document: points, the best ``y`` up to each ``x`` as stairs, limits as dashes."""
    xs = [p[0] for p in points] + ([] if x_limit is None else [x_limit])
    ys = [p[1] for p in points] + ([] if y_limit is None else [y_limit])
    x = Axis(xs or [0.0], LEFT, WIDTH - RIGHT)
    y = Axis(ys or [0.0], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(x, y, x_label, y_label),
    ]
    for limit, axis, other in ((x_limit, x, y), (y_limit, y, x)):
        if limit is not None:
            ends = [(axis(limit), other.first), (axis(limit), other.last)]
            (x1, y1), (x2, y2) = ends if axis is x else [(b, a) for a, b in ends]
            parts.append(
                f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#c33" '
                'stroke-dasharray="5 4"/>'
            )
    stairs: list[tuple[float, float]] = []
    for p in sorted(points, key=lambda p: (p[0], -p[1])):
        if not stairs or p[1] > stairs[-1][1]:
            stairs.append((p[0], p[1]))
    if stairs:
        path = f"M{x(stairs[0][0])} {y(stairs[0][1])}"
        path += "".join(f"H{x(px)}V{y(py)}" for px, py in stairs[1:])
        parts.append(f'<path d="{path}" fill="none" stroke="#26a" stroke-opacity="0.5"/>')
    parts += [_mark(x(p[0]), y(p[1]), p[2], p[3]) for p in points]
    return "\n".join([*parts, "</svg>", ""])


def _mark(px: float, py: float, label: str, front: bool) -> str:
    chosen = label == "chosen"
    fill = "#c33" if chosen else "#26a" if front else "#bbb"
    mark = f'<circle cx="{px}" cy="{py}" r="{6 if chosen else 4}" fill="{fill}"/>'
    if not label:
        return mark
    anchor = "end" if px > WIDTH / 2 else "start"
    place = px - 9 if anchor == "end" else px + 9
    text = f'<text x="{round(place, 2)}" y="{py + 4}" text-anchor="{anchor}">{escape(label)}</text>'
    return mark + text


def _axes(x: Axis, y: Axis, x_label: str, y_label: str) -> list[str]:
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#333"/>']
    for value in x.ticks():
        at = x(value)
        parts.append(f'<line x1="{at}" y1="{bottom}" x2="{at}" y2="{bottom + 5}" stroke="#333"/>')
        parts.append(
            f'<text x="{at}" y="{bottom + 19}" text-anchor="middle">{_number(value)}</text>'
        )
    for value in y.ticks():
        at = y(value)
        parts.append(f'<line x1="{LEFT - 5}" y1="{at}" x2="{LEFT}" y2="{at}" stroke="#333"/>')
        parts.append(f'<text x="{LEFT - 9}" y="{at + 4}" text-anchor="end">{_number(value)}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    parts.append(
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
