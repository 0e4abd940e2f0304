"""Draw docs/scaling.svg from the section `scale` of bench/results.json: `python -m bench.plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results import sections

_TARGET = Path(__file__).resolve().parent.parent / "docs" / "scaling.svg"
_WIDTH, _HEIGHT, _LEFT, _BASE, _TOP = 840, 330, 60, 270, 60
_BAR, _GAP = 70, 32

Bar = tuple[str, float, str]


def bars_of(scale: Mapping[str, Any]) -> tuple[list[Bar], list[Bar]]:
    """(label, events a second, colour): by campaigns, and by workers."""
    campaigns = [(f"{each['campaigns']:,}", each["events_per_second"], "#3b6ea5") for each in scale["campaigns"]]
    workers = []
    for each in scale["workers"]:
        held = f" x {each['cores_each']:g} core" if each["cores_each"] else ""
        workers.append((f"{each['workers']}{held}", each["events_per_second"], "#8a5a9e" if held else "#4d8f5b"))
    return campaigns, workers


def svg(scale: Mapping[str, Any]) -> str:
    """The picture."""
    campaigns, workers = bars_of(scale)
    title = f"Events a second, {scale['measured_at'][:10]}, {scale['machine']['cores']} cores with broker and Redis"
    highest = max(rate for _, rate, _ in (*campaigns, *workers))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{title}</text>',
        f'<line x1="{_LEFT}" y1="{_BASE}" x2="{_WIDTH - 20}" y2="{_BASE}" stroke="#444"/>',
    ]
    second = _LEFT + len(campaigns) * (_BAR + _GAP) + 30
    parts += _group(campaigns, _LEFT, highest, "campaigns, one worker")
    parts += _group(workers, second, highest, "workers, 100 campaigns")
    return "\n".join([*parts, "</svg>", ""])


def _group(bars: Sequence[Bar], left: float, highest: float, title: str) -> list[str]:
    parts = []
    for number, (label, rate, colour) in enumerate(bars):
        x, height = left + 10 + number * (_BAR + _GAP), rate / highest * (_BASE - _TOP - 10)
        middle = x + _BAR / 2
        parts += [
            f'<rect x="{x}" y="{_BASE - height:.1f}" width="{_BAR}" height="{height:.1f}" fill="{colour}"/>',
            f'<text x="{middle}" y="{_BASE - height - 6:.1f}" text-anchor="middle">{rate:,.0f}</text>',
            f'<text x="{middle}" y="{_BASE + 18}" text-anchor="middle">{label}</text>',
        ]
    parts.append(f'<text x="{left + 10}" y="{_BASE + 42}" fill="#444">{title}</text>')
    return parts


def main() -> None:
    """Draw."""
    _TARGET.write_text(svg(sections()["scale"]), encoding="utf-8")


if __name__ == "__main__":
    main()
