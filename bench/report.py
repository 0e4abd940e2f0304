"""The tables of a benchmark, in the terminal and as Markdown.

python -m bench.report            what bench/results.json says, in Markdown
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bench.contestants import CAMPAIGNWATCH
from bench.results import RESULTS, sections
from streams.errors import UserError

_HEADS = ("", "events/s", "spread", "Campaignwatch is", "CPU s per million events", "start-up s", "answer")
_SECTIONS = ("throughput", "ysb")


def rows(section: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line for each contender, under `_HEADS`."""
    own = next((r["events_per_second"] for r in section["results"] if r["system"] == CAMPAIGNWATCH), None)
    return [_row(result, own) for result in section["results"]]


def _row(result: Mapping[str, Any], own: float | None) -> tuple[str, ...]:
    rate = result["events_per_second"]
    if rate is None:
        return result["title"], "failed", "", "", "", "", result["failed"][0].splitlines()[0][:80]
    spread = result["spread"]
    ratio = f"{own / rate:.2f} x" if own and result["system"] != CAMPAIGNWATCH else ""
    answer = {None: "none", True: "right", False: "WRONG"}[result["correct"]]
    return (
        result["title"],
        f"{rate:,.0f}",
        f"{spread['lowest']:,.0f} to {spread['highest']:,.0f}",
        ratio,
        f"{result['cpu_seconds_per_million']:.1f}",
        f"{result['start_up_seconds']:.1f}",
        answer,
    )


def goals(section: Mapping[str, Any]) -> list[str]:
    """A sentence for each goal."""
    return [
        f"{name.replace('_', ' ')}: {section['ratios'][name]:.2f} (goal: at least {goal['at_least']:g}, "
        f"{'reached' if goal['reached'] else 'NOT REACHED'})"
        for name, goal in section["goals"].items()
    ]


def table(section: Mapping[str, Any]) -> Table:
    """For a terminal."""
    shown = Table(title=section["title"], caption="\n".join(goals(section)))
    for number, head in enumerate(_HEADS):
        shown.add_column(head, justify="right" if 0 < number < len(_HEADS) - 1 else "left")
    for row in rows(section):
        shown.add_row(*row)
    return shown


def markdown(section: Mapping[str, Any]) -> str:
    """For a document."""
    machine = section["machine"]
    lines = [
        f"**{section['title']}**, {section['measured_at'][:10]}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}",
        "",
        *("| " + " | ".join(row) + " |" for row in (_HEADS, ("---", *(["---:"] * (len(_HEADS) - 2)), "---"), *rows(section))),
        "",
        *(f"- {goal}" for goal in goals(section)),
    ]
    return "\n".join(lines)


def main(results: Annotated[Path, typer.Option(help="the file that the benchmark wrote")] = RESULTS) -> None:
    """Print the tables of throughput in Markdown, as docs/benchmarks.md shows them."""
    if not results.exists():
        raise UserError(f"{results}: no such file; run make bench first")
    known = sections(results)
    typer.echo("\n\n".join(markdown(known[name]) for name in _SECTIONS if name in known))


if __name__ == "__main__":
    typer.run(main)
