"""Two views of the demo: the live terminal, and plain lines for logs and pipes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alerts.demo.report import first_of, is_open
from alerts.demo.story import WINDOW, Story
from streams.api.cli import formatted
from streams.api.times import read_time
from streams.simulate.faults import Fault

#: Rows of the campaign table, lines of the feed, and Slack messages shown.
_CAMPAIGNS, _FEED, _MESSAGES = 10, 6, 4
_COLUMNS = ("impressions", "clicks", "ctr", "conversions", "cvr", "cpa", "roas", "spend")
#: Milliseconds between two lines about how things stand, headless.
_LINE_EVERY = 10_000


def clock(ms: int) -> str:
    """Local wall clock time of a moment."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%H:%M:%S")


class Lines:
    """Plain lines: one for everything that happens, and one now and then on how things stand."""

    def __init__(self, story: Story, write: Callable[[str], Any], now: Callable[[], int]) -> None:
        self._story = story
        self._write = write
        self._now = now
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def say(self, line: str) -> None:
        """Write it with the time."""
        self._story.said.append((self._now(), line))
        self._write(f"{clock(self._now())} {line}")

    def update(self, now: int) -> None:
        """Every ten seconds, the numbers."""
        if now - self._last < _LINE_EVERY:
            return
        self._last = now
        story = self._story
        if story.live_at is None:
            if story.to_play:
                self.say(f"history: {story.played:,} of about {story.to_play:,} events sent, {story.read:,} applied")
            return
        opened = sum(map(is_open, story.incidents))
        self.say(
            f"{story.phase}: {story.events_per_second:,.0f} events/s, {story.read:,} in all, lag {_lag(story, now)}, "
            f"{opened} open incident{'' if opened == 1 else 's'}"
        )


class Screen:
    """The live terminal."""

    def __init__(self, story: Story, console: Console, now: Callable[[], int]) -> None:
        self._story = story
        self._now = now
        self._live = Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")
        self._console = console

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Shown in the feed at the next update."""
        self._story.said.append((self._now(), line))

    def update(self, now: int) -> None:
        """Draw everything."""
        self._live.update(render(self._story, now, self._console.height), refresh=True)


#: rich's own form, without the fonts that a reader's browser would fetch from somebody else's server.
_SVG = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def picture(story: Story, now: int, width: int = 150) -> str:
    """The screen as an SVG image."""
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(render(story, now, 60))
    return console.export_svg(title="campaignwatch demo", code_format=_SVG)


def render(story: Story, now: int, height: int) -> RenderableType:
    """The whole screen. Low terminals show fewer campaigns, feed lines and messages."""
    spare = height - 30 - len(story.faults)
    parts: list[RenderableType] = [_head(story, now)]
    if story.rows:
        parts.append(_campaigns(story, max(4, min(_CAMPAIGNS, _CAMPAIGNS + spare))))
    if story.faults:
        parts.append(_faults(story, now))
    if story.live_at is not None:
        parts.append(_incidents(story))
    if story.slack is not None and story.slack.messages:
        parts.append(_slack(story, _MESSAGES if spare > 0 else 2))
    parts.append(_feed(story, _FEED if spare > 0 else 3))
    return Group(*parts)


def _lag(story: Story, now: int) -> str:
    mark = story.watermark()
    return "-" if mark is None else f"{max(0, now - mark) / 1000:.1f} s"


def _head(story: Story, now: int) -> Panel:
    lines: list[RenderableType] = []
    first = Text.assemble(
        (story.phase, "bold"), f"   {story.events_per_second:,.0f} events/s   {story.read:,} events   watermark lag {_lag(story, now)}"
    )
    if story.live_at is not None and story.ends_at is not None:
        first.append(f"   {max(0, story.ends_at - now) // 1000} s left")
    lines.append(first)
    if story.live_at is None and story.to_play:
        lines.append(Text(f"playing the past: {story.played:,} of about {story.to_play:,} events sent, {story.read:,} applied"))
        lines.append(ProgressBar(total=story.to_play, completed=min(story.read, story.to_play), width=60))
    totals = {name: sum(entry[name] for entry in story.partitions) for name in ("applied", "duplicate", "too_late", "quarantined")}
    if story.partitions:
        lines.append(Text("   ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in totals.items()), style="dim"))
    lines.extend(
        Text(f"{role}: {url}/metrics  {url}/api/{'kpis?cube=campaign&window=5m' if role == 'streams' else 'incidents'}", style="cyan")
        for role, url in story.urls.items()
    )
    return Panel(Group(*lines), title="Campaignwatch", title_align="left")


def _campaigns(story: Story, rows: int) -> Table:
    table = Table(title=f"Top campaigns by spend, last {WINDOW}", title_justify="left", expand=True, pad_edge=False)
    table.add_column("campaign", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("budget a day", justify="right", no_wrap=True)
    table.add_column("burn", justify="right", no_wrap=True)
    names = {c.campaign_id: c.name for c in story.world.campaigns}
    troubled = {i["key"].get("campaign_id") for i in story.incidents if is_open(i)}
    known = [row for row in story.rows if row["campaign_id"] in names]
    for row in known[:rows]:
        campaign_id = row["campaign_id"]
        burn = story.burn(row)
        table.add_row(
            Text(f"{campaign_id} {names[campaign_id]}"),
            *(formatted(name, row[name]) for name in _COLUMNS),
            f"{story.budget(campaign_id):,.0f}",
            Text("-" if burn is None else f"{burn:.2f}x", style="bold red" if burn is not None and burn >= 2 else ""),
            style="red" if campaign_id in troubled else "",
        )
    return table


def _faults(story: Story, now: int) -> Table:
    table = Table(title="Faults that the producer injects", title_justify="left", expand=True, pad_edge=False)
    for name in ("fault", "campaign", "from", "to", "found"):
        table.add_column(name, no_wrap=True)
    for fault in story.faults:
        on = fault.active(now)
        table.add_row(
            fault.kind.value, fault.campaign_id, clock(fault.start), clock(fault.end), found(story, fault, now), style="bold" if on else ""
        )
    return table


def found(story: Story, fault: Fault, now: int) -> str:
    """What became of a fault so far."""
    incident = first_of(fault, story.incidents)
    if incident is not None:
        after = (read_time(incident["opened_at"]) - fault.start) / 1000
        return f"after {after:.0f} s by {incident['rule']}{'' if is_open(incident) else ', resolved'}"
    return "to come" if now < fault.start else "on, not found yet" if fault.active(now) else "NOT FOUND"


def _incidents(story: Story) -> Table:
    table = Table(title="Incidents", title_justify="left", expand=True, pad_edge=False)
    for name in ("opened", "resolved", "rule", "on", "observed", "expected"):
        table.add_column(name, no_wrap=True)
    for incident in story.incidents[:6]:
        resolved = incident.get("resolved_at")
        table.add_row(
            clock(read_time(incident["opened_at"])),
            clock(read_time(resolved)) if resolved else "open",
            incident["rule"],
            Text(" ".join(str(value) for value in incident["key"].values()) + f" {incident.get('name') or ''}"),
            f"{incident.get('kpi') or incident.get('measure')} {incident['observed']:,.1f}",
            f"{incident['expected']['low']:,.1f} to {incident['expected']['high']:,.1f}",
            style="red" if is_open(incident) else "green",
        )
    if not story.incidents:
        table.add_row("none so far")
    return table


def _slack(story: Story, most: int) -> Panel:
    assert story.slack is not None
    posted = story.slack.messages
    lines = [Text(message.text.splitlines()[0] if message.text else "(no text)", no_wrap=True, overflow="ellipsis") for message in posted]
    return Panel(Group(*lines[-most:]), title=f"Slack stand-in: {len(posted)} messages", title_align="left")


def _feed(story: Story, most: int) -> Panel:
    lines = [Text(f"{clock(at)} {line}", no_wrap=True, overflow="ellipsis") for at, line in list(story.said)[-most:]]
    return Panel(Group(*lines), title="What happens", title_align="left")
