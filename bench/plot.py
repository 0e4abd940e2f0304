"""Draw docs/scaling.svg: throughput against campaigns and against workers, from the section `scale` of bench/results.json.

python -m bench.scale && python -m bench.plot
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.coefficients import section
from streams.errors import UserError

DRAWING = Path(__file__).parents[1] / "docs" / "scaling.svg"
_WIDTH, _HEIGHT = 860, 340
_TOP, _BOTTOM = 60, 280
_COLOURS = ("#1f6feb", "#d1571b", "#2c8a4b", "#8250df")
#: Left and right end of the two panels.
_PANELS = ((70, 400), (500, 830))

#: (where, how many events/s: median, lowest, highest)
Point = tuple[float, tuple[float, float, float]]


def drawing(scale: Mapping[str, Any]) -> str:
    """The section as an SVG document."""
    points = scale["points"]
    campaigns = sorted({point["campaigns"] for point in points})
    workers = sorted({point["workers"] for point in points})
    highest = _rounded_up(max(point["events_per_second"]["highest"] for point in points))
    machine = scale["machine"]
    by_workers = {_counted(count, "worker"): _line(points, "workers", count, "campaigns") for count in workers}
    by_campaigns = {_counted(count, "campaign"): _line(points, "campaigns", count, "workers") for count in campaigns}
    said = f"Clicks of 440 bytes; {machine['cores']} cores carried workers, {scale['servers']}; measured {scale['measured_at'][:10]}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
            "<title>Throughput against campaigns and against workers</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
            *_panel(_PANELS[0], "events/s against campaigns", by_workers, campaigns, highest, math.log10),
            *_panel(_PANELS[1], "events/s against workers", by_campaigns, workers, highest, float),
            _text(_WIDTH / 2, _HEIGHT - 10, said, "middle"),
            "</svg>",
            "",
        ]
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _line(points: Sequence[Mapping[str, Any]], same: str, value: int, along: str) -> list[Point]:
    own = sorted((point for point in points if point[same] == value), key=lambda point: point[along])
    return [(point[along], tuple(point["events_per_second"][name] for name in ("median", "lowest", "highest"))) for point in own]


def _panel(
    ends: tuple[int, int],
    title: str,
    lines: Mapping[str, Sequence[Point]],
    marks: Sequence[int],
    highest: float,
    scaled: Callable[[float], float],
) -> Iterator[str]:
    left, right = ends
    low, high = scaled(marks[0]), scaled(marks[-1])

    def x(value: float) -> float:
        return left + 20 + (right - left - 40) * ((scaled(value) - low) / (high - low) if high > low else 0.5)

    def y(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * value / highest

    yield _text((left + right) / 2, 18, title, "middle", bold=True)
    for part in range(5):
        value = highest * part / 4
        yield f'<line x1="{left}" y1="{y(value):.1f}" x2="{right}" y2="{y(value):.1f}" stroke="#d0d7de"/>'
        yield _text(left - 6, y(value) + 4, f"{value:,.0f}", "end")
    for mark in marks:
        yield _text(x(mark), _BOTTOM + 18, f"{mark:,}", "middle")
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        way = " ".join(f"{x(at):.1f},{y(median):.1f}" for at, (median, _, _) in points)
        yield f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for at, (median, least, most) in points:
            yield f'<line x1="{x(at):.1f}" y1="{y(least):.1f}" x2="{x(at):.1f}" y2="{y(most):.1f}" stroke="{colour}"/>'
            yield f'<circle cx="{x(at):.1f}" cy="{y(median):.1f}" r="3.5" fill="{colour}"><title>{name}: {median:,.0f}/s</title></circle>'
        yield _text(left + number * 110, 40, name, "start", colour)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#24292f", *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{text}</text>'


def _rounded_up(value: float) -> float:
    """The next 1, 1.2, 1.6, 2, 3, 4, 6 or 8 times a power of ten."""
    step = 10.0 ** math.floor(math.log10(value))
    return next(times * step for times in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if times * step >= value)


def main() -> None:
    try:
        DRAWING.write_text(drawing(section()), encoding="utf-8")
    except UserError as error:
        raise SystemExit(f"bench.plot: {error}") from None


if __name__ == "__main__":
    main()
