"""What a run came to: a line per round while it goes on, a table at the end, JSON for other programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.differences import Difference

_SHOWN = 25


@dataclass(slots=True)
class RoundResult:
    """One round."""

    number: int
    faults: list[str]
    #: Records in the log by its end, all topics.
    events: int
    lost: int
    doubled: int
    differences: list[Difference]
    #: Seconds from the last fault's end until everything was applied; None: never.
    catch_up: float | None
    compared: int
    seconds: float

    @property
    def good(self) -> bool:
        """Nothing differs."""
        return self.catch_up is not None and not (self.lost or self.doubled or self.differences)


@dataclass(slots=True)
class Report:
    """A whole run."""

    seed: int
    kafka: str
    redis: str
    rounds: list[RoundResult] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    #: Processes that ended by themselves, and that were restarted because they said that they were ill.
    ended: list[str] = field(default_factory=list)
    ill: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing differs after any round."""
        return bool(self.rounds) and all(one.good for one in self.rounds)

    def content(self) -> dict[str, Any]:
        """The JSON of `--report`."""
        caught_up = [one.catch_up for one in self.rounds if one.catch_up is not None]
        return {
            "seed": self.seed,
            "rounds": len(self.rounds),
            "kills": dict(sorted(self.kills.items())),
            "events": self.rounds[-1].events if self.rounds else 0,
            "lost": sum(one.lost for one in self.rounds),
            "doubled": sum(one.doubled for one in self.rounds),
            "max_catch_up_s": round(max(caught_up, default=0.0), 1),
            "differences": [str(difference) for one in self.rounds for difference in one.differences],
            "faults": dict(sorted(self.faults.items())),
            "kafka": self.kafka,
            "redis": self.redis,
            "compared": sum(one.compared for one in self.rounds),
            # Log and last words of each.
            "processes_ended": self.ended,
            "processes_ill": self.ill,
            "good": self.good,
        }

    def write(self, path: Path) -> None:
        """Write the JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content(), indent=2) + "\n", encoding="utf-8")


def round_line(result: RoundResult, rounds: int) -> str:
    """One line of progress."""
    caught = f"caught up in {result.catch_up:.1f} s" if result.catch_up is not None else "NOT caught up"
    state = "equal" if result.good else f"LOST {result.lost} DOUBLED {result.doubled} DIFFERENT {len(result.differences)}"
    faults = ", ".join(fault.split()[0] for fault in result.faults) or "none"
    return f"round {result.number}/{rounds}  {result.seconds:.0f} s  {result.events} events  {caught}  {state}  [{faults}]"


def show(report: Report, console: Console) -> None:
    """The table at the end."""
    content = report.content()
    table = Table(title=f"chaos, seed {report.seed}: {report.kafka} Kafka, {report.redis} Redis", show_header=False)
    for name in ("rounds", "events", "compared", "lost", "doubled"):
        table.add_row(name, str(content[name]))
    table.add_row("other differences", str(len(content["differences"])))
    table.add_row("kills", f"{sum(report.kills.values())}: " + ", ".join(f"{what} {n}" for what, n in sorted(report.kills.items())))
    table.add_row("faults", ", ".join(f"{what} {n}" for what, n in sorted(report.faults.items())))
    table.add_row("longest catch-up", f"{content['max_catch_up_s']} s")
    table.add_row("ended by themselves, ill", f"{len(report.ended)}, {len(report.ill)}")
    table.add_row("result", "the tables are what the log says" if report.good else "THE TABLES ARE NOT WHAT THE LOG SAYS")
    console.print(table)


def show_failure(result: RoundResult, seed: int, directory: Path, console: Console) -> None:
    """What is needed to look further."""
    console.print(f"round {result.number} of seed {seed} failed; its faults:", style="bold")
    for fault in result.faults:
        console.print(f"  {fault}", markup=False)
    for difference in result.differences[:_SHOWN]:
        console.print(f"  {difference}", markup=False)
    if len(result.differences) > _SHOWN:
        console.print(f"  and {len(result.differences) - _SHOWN} more differences")
    console.print(f"logs of the processes, the settings and the servers' files are kept in {directory}", markup=False)
