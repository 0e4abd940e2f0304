"""The command `campaignwatch replay`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.config import Settings, SpendSource, load
from streams.events.models import FUTURE_MS
from streams.options import ConfigOption
from streams.panes.ladder import Ladder
from streams.preflight import check_kafka
from streams.printable import printable
from streams.producing import Sender
from streams.replay import progress
from streams.replay.mapping import Mapping, load_mapping
from streams.replay.playing import DAY_MS, play, shift_to_now
from streams.replay.preparing import FIELD, START
from streams.replay.reading import ReadError, Source, open_source
from streams.replay.sequence import in_file_order, in_time_order
from streams.replay.survey import KEPT_FAULTS, Survey, survey

#: Seconds between two writes of the state file.
_SAVE_EVERY = 1.0
#: Platforms that a message names.
_NAMED_PLATFORMS = 5


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be replayed, and what the first look found."""

    settings: Settings
    mapping_path: Path
    mapping: Mapping
    sources: list[Source]
    found: Survey
    speed: float | None

    def identity(self) -> str:
        return progress.identity(self.settings, self.mapping, self.sources, by_time=self.speed is not None)

    def pieces(self, shift_ms: int) -> Iterator[pl.DataFrame]:
        order = in_file_order if self.speed is None else in_time_order
        return order(self.mapping_path, self.mapping, self.sources, self.found, shift_ms)


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV, JSON Lines or Parquet; .gz and .zst are unpacked.")],
    mapping: Annotated[
        Path, typer.Option(metavar="M.yaml", help="How rows become events (docs/replay.md), or the name of a mapping that comes along.")
    ],
    to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="Move all times by whole days: the newest becomes the latest possible not in the future.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Play N times as fast as it happened. Default: as fast as possible.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last replay of these files with this mapping was interrupted.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where progress is kept. Default: below $XDG_STATE_HOME/campaignwatch.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, send nothing.")] = False,
    errors: Annotated[int, typer.Option(metavar="N", min=0, max=KEPT_FAULTS, help="Name at most N faults of rows; all are counted.")] = 100,
    config: ConfigOption = None,
) -> None:
    """Play recorded data as events: your own history, or a sample.

    The files are read twice: once to check every row and to find the newest time, once to send. Rows that cannot be used are named with
    file and row and left out; the exit status is then 1.

    Interrupted? Run the same command with --resume: the count of acknowledged events is kept in the state file (removed at the end), and
    the order of events is the same in every run. What was sent but not yet counted is sent again under the same event ids, and the
    workers know it as duplicate. Beyond the dedupe horizon (streams.dedupe_horizon, 1 h) a replay repeated without --resume counts twice.
    """
    settings = load(config)
    rules = load_mapping(mapping)
    sources = [open_source(path, rules.format, rules.separator) for path in files]
    _refuse_repeated(sources)
    # Messages go to standard error, so that they never mix with a pipe's data; the bar shows on a terminal only.
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    found = _look(console, mapping, rules, sources, settings)
    shown = found.faults[:errors]
    for fault in shown:
        console.print(printable(str(fault)), markup=False)
    if found.fault_count > len(shown):
        console.print(f"... and {found.fault_count - len(shown):,} more of this kind (--errors shows up to {KEPT_FAULTS:,}).")
    job = _Job(settings, mapping, rules, sources, found, speed)
    if found.newest is None:
        console.print("No row makes an event; nothing to send.")
    else:
        path = state or progress.default_path(job.identity())
        now_ms = time.time_ns() // 1_000_000
        start = _starting_point(console, job, path, resume)
        if start is None:
            start = progress.Progress(job.identity(), shift_to_now(found.newest, now_ms) if to_now else 0, 0)
        _describe(console, settings, found, start.shift_ms, now_ms)
        if dry_run:
            console.print("Nothing was sent (--dry-run).")
        else:
            asyncio.run(_send(console, job, path, start))
            _say_where_to_look(console, job, start.shift_ms, now_ms, config)
    if found.faulty_rows:
        console.print(f"{found.faulty_rows:,} of {found.rows:,} rows could not be used, or not for every event of the mapping.")
        raise typer.Exit(1)


def _refuse_repeated(sources: list[Source]) -> None:
    seen: dict[str, Path] = {}
    for source in sources:
        if source.tag in seen:
            raise ReadError(f"{source.path}: holds the same as {seen[source.tag]}; name it once")
        seen[source.tag] = source.path


def _look(console: Console, mapping: Path, rules: Mapping, sources: list[Source], settings: Settings) -> Survey:
    with Progress(
        TextColumn("Reading"), TextColumn("{task.completed:,.0f} rows"), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        return survey(mapping, rules, sources, settings.money, on_rows=lambda rows: bar.advance(task, rows))


def _starting_point(console: Console, job: _Job, path: Path, resume: bool) -> progress.Progress | None:
    """The interrupted replay to go on with; None to start at the beginning."""
    before = progress.load(path)
    ours = before is not None and before.identity == job.identity()
    if resume and before is not None and not ours:
        raise progress.ProgressError(
            f"{path}: is of another replay (other files, mapping, settings or topics, or with and without --speed); "
            "leave --resume out to start at the beginning"
        )
    if resume and before is None:
        console.print("No interrupted replay of this is known; starting at the beginning.")
    if before is not None and ours and not resume:
        console.print(f"An earlier replay of this stopped after {before.sent:,} of {job.found.total:,} events; --resume would go on there.")
    return before if resume else None


async def _send(console: Console, job: _Job, path: Path, start: progress.Progress) -> None:
    """Send what `start` has not sent yet, keeping count at `path`."""
    await check_kafka(job.settings, [topic for topic, count in job.found.events.items() if count])
    columns = (TextColumn("Sending"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} events/s"), TimeRemainingColumn())
    began = saved = time.monotonic()
    now_at = start
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=job.found.total, completed=start.sent, rate="0")

        def on_sent(count: int) -> None:
            nonlocal now_at, saved
            now_at = replace(now_at, sent=now_at.sent + count)
            now = time.monotonic()
            bar.update(task, completed=now_at.sent, rate=f"{(now_at.sent - start.sent) / max(now - began, 1e-3):,.0f}")
            if now - saved >= _SAVE_EVERY:
                progress.save(path, now_at)
                saved = now

        progress.save(path, now_at)
        try:
            async with Sender(job.settings) as sender:
                await play(job.pieces(start.shift_ms), sender, job.settings, skip=start.sent, speed=job.speed, on_sent=on_sent)
        except BaseException:
            if not now_at.sent:
                progress.forget(path)
                raise
            progress.save(path, now_at)
            console.print(f"Stopped after {now_at.sent:,} of {job.found.total:,} events; the same command with --resume goes on there.")
            raise
    progress.forget(path)
    seconds = time.monotonic() - began
    sent = now_at.sent - start.sent
    console.print(f"Sent {sent:,} events in {seconds:,.1f} s ({sent / max(seconds, 1e-3):,.0f}/s).")


def _describe(console: Console, settings: Settings, found: Survey, shift: int, now_ms: int) -> None:
    assert found.oldest is not None
    assert found.newest is not None
    parts = ", ".join(f"{count:,} {settings.topic(topic)}" for topic, count in found.events.items() if count)
    moved = f", moved by {shift // DAY_MS:+,} days" if shift else ""
    oldest, newest = found.oldest + shift, found.newest + shift
    console.print(f"{found.rows:,} rows make {found.total:,} events ({parts}) from {_utc(oldest)} to {_utc(newest)}{moved}.")
    keep_ms = settings.streams.ladder[-1].keep * 1_000
    if now_ms - oldest > keep_ms:
        age, kept = (now_ms - oldest) // DAY_MS, keep_ms // DAY_MS
        console.print(f"Warning: the oldest are {age:,} days old; those older than {kept:,} days will count as too late.")
        if not shift:
            console.print("         --shift-to-now moves all of it near to the present; streams.ladder says how long is kept.")
    if newest > now_ms + FUTURE_MS:
        console.print("Warning: some lie in the future and will be quarantined; --shift-to-now moves all of it to the past.")
    _say_where_spend_goes(console, settings, found)


def _say_where_spend_goes(console: Console, settings: Settings, found: Survey) -> None:
    """A platform's reports are its `spend` only if the settings say so; without a word, zeroes would surprise."""
    platforms = sorted({str(name) for report in found.reports for name in report.frame[FIELD + "platform"].unique()})
    others = [name for name in platforms if settings.money.spend_sources.get(name) is not SpendSource.REPORTS]
    if not others:
        return
    named = others[:_NAMED_PLATFORMS] + (["..."] if len(others) > _NAMED_PLATFORMS else [])
    wanted = ", ".join(f"{name}: reports" for name in others[:_NAMED_PLATFORMS])
    console.print(f"Note: reports of {', '.join(named)} count as `reported_spend`, not as `spend`.", markup=False)
    console.print(f"      To change that, give the workers money.spend_sources: {{{wanted}}} before the first event.", markup=False)


def _say_where_to_look(console: Console, job: _Job, shift: int, now_ms: int, config: Path | None) -> None:
    """The command that shows what was sent: `kpis` looks at the last five minutes by itself."""
    found, ladder = job.found, Ladder(job.settings.streams.ladder)
    assert found.oldest is not None
    assert found.newest is not None
    starts = [int(report.frame.select(pl.col(START).min()).item()) for report in found.reports if report.frame.height]
    # A minute on, when the command is run, the panes at the edge may be gone.
    later = now_ms + 60_000
    oldest, newest = max(min([found.oldest, *starts]) + shift, later - ladder.retention), min(found.newest + shift, later)
    level = ladder.finest_kept(oldest, later)
    if level is None or newest < oldest:
        return
    first, last = oldest // level.size * level.size, newest // level.size * level.size + level.size
    words = f"campaignwatch kpis --from {_utc(first, 'T')} --to {_utc(last, 'T')}" + (f" --config {config}" if config is not None else "")
    console.print(f"To see it: {words}", markup=False)


def _utc(at: int, between: str = " ") -> str:
    return datetime.fromtimestamp(at // 1_000, UTC).strftime(f"%Y-%m-%d{between}%H:%M:%SZ")
