"""The commands `campaignwatch quarantine list`, `show` and `replay`."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from streams.config import INPUT_TOPICS, Settings, Topic, load
from streams.errors import UserError
from streams.events.models import FUTURE_MS, Event
from streams.events.parsing import parse
from streams.events.refusal import Reason, Refusal
from streams.options import ConfigOption
from streams.preflight import check_kafka
from streams.printable import printable
from streams.producing import Sender
from streams.quarantine.reading import REPLAYED, Entry, folded
from streams.quarantine.record import Coordinates, Quarantined, QuarantineError
from streams.quarantine.showing import instant, key_text, pretty, safe_text

_SPAN = re.compile(r"(\d{1,6})([smhd])")
#: Records sent back between two rounds of marking them.
_ROUND = 500

ReasonOption = Annotated[list[Reason] | None, typer.Option("--reason", help="Only records refused for this; may be repeated.")]
TopicOption = Annotated[list[str] | None, typer.Option("--topic", metavar="TOPIC", help="Only records of this topic, such as clicks.")]
SinceOption = Annotated[str | None, typer.Option("--since", metavar="T", help="Only newer refusals: 30m, 2h, 7d or an RFC 3339 time.")]


class QuarantineCommandError(UserError):
    """A question or an order that cannot be carried out."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which refused records are meant."""

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since: datetime | None = None

    def takes(self, refused: Quarantined) -> bool:
        """Whether the record is among them."""
        return (
            (not self.reasons or refused.reason in self.reasons)
            and (not self.topics or refused.topic in self.topics)
            and (self.since is None or refused.quarantined_at >= self.since)
        )


def make_filter(
    settings: Settings, reasons: Iterable[Reason] | None, topics: Iterable[str] | None, since: str | None, now: datetime
) -> Filter:
    """The filter of a command's options. Raises QuarantineCommandError for a topic or a time that is none."""
    names = {topic.value: settings.topic(topic) for topic in INPUT_TOPICS}
    full = set()
    for topic in topics or ():
        if topic not in names and topic not in names.values():
            raise QuarantineCommandError(f"--topic {topic}: there are {', '.join(names)}")
        full.add(names.get(topic, topic))
    return Filter(frozenset(reason.value for reason in reasons or ()), frozenset(full), _since(since, now) if since else None)


def _since(text: str, now: datetime) -> datetime:
    span = _SPAN.fullmatch(text)
    if span is not None:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[span[2]]
        return now - timedelta(**{unit: int(span[1])})
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
    except ValueError as error:
        raise QuarantineCommandError(
            f"--since {text}: write 30m, 2h, 7d or an RFC 3339 time with an offset, such as 2026-11-23T08:00:00Z"
        ) from error
    return moment


def quarantine_list(
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show the newest N; all are counted.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    config: ConfigOption = None,
) -> None:
    """List refused records, newest last; a record that was quarantined more than once is listed once."""
    settings = load(config)
    wanted = make_filter(settings, reason, topic, since, datetime.now(UTC))
    entries, strange = asyncio.run(folded(settings))
    chosen = [entry for entry in entries.values() if wanted.takes(entry.refused)]
    if as_json:
        for entry in chosen[-limit:]:
            typer.echo(json.dumps(_summary(entry)))
        return
    for line in _lines(chosen[-limit:]):
        typer.echo(line)
    counts = Counter(entry.refused.reason for entry in chosen)
    typer.echo(f"{len(chosen)} refused records" + "".join(f", {count} {name}" for name, count in counts.most_common()))
    if len(chosen) > limit:
        typer.echo(f"The newest {limit} are shown; --limit shows more.")
    if strange:
        typer.echo(f"{strange} records of {settings.topic(Topic.QUARANTINE)} are no quarantine records and were passed over.")


def quarantine_show(
    coordinates: Annotated[str, typer.Argument(metavar="TOPIC:PARTITION:OFFSET", help="As `list` prints them.")],
    raw: Annotated[bool, typer.Option("--raw", help="Show personal data, and bytes that are no JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show one refused record: where it came from, what is wrong with it, and its content."""
    settings = load(config)
    wanted = _coordinates(coordinates)
    entries, _ = asyncio.run(folded(settings))
    entry = entries.get(wanted)
    if entry is None:
        typer.echo(f"{wanted}: not in {settings.topic(Topic.QUARANTINE)}; `campaignwatch quarantine list` says what is", err=True)
        raise typer.Exit(1)
    refused = entry.refused
    typer.echo(f"record       {printable(str(refused.coordinates))}")
    typer.echo(f"reason       {printable(refused.reason)}")
    typer.echo(f"detail       {safe_text(refused.detail.encode())}")
    if refused.timestamp is not None:
        typer.echo(f"record time  {_record_time(refused.timestamp)}")
    typer.echo(f"quarantined  {instant(refused.quarantined_at)}" + (f", {entry.times} times" if entry.times > 1 else ""))
    if entry.replayed_at is not None:
        typer.echo(f"sent back    {instant(entry.replayed_at)}")
    if refused.left_out_bytes:
        typer.echo(f"key, value   {refused.left_out_bytes:,} bytes, too long to be kept here: the log has them at these coordinates")
        return
    typer.echo(f"key          {'(none)' if refused.key is None else safe_text(refused.key)}")
    typer.echo(f"value        {0 if refused.value is None else len(refused.value):,} bytes")
    typer.echo(pretty(refused, raw=raw))


def quarantine_replay(
    records: Annotated[
        list[str] | None, typer.Argument(metavar="TOPIC:PARTITION:OFFSET", help="Only these. Default: all that the options leave.")
    ] = None,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also send back what is still invalid.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also send back what was sent back before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent back, send nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Send refused records back to their topic, once what they were refused for is repaired: a rate added, a clock set right.

    Key and value go back byte for byte. Records that would be refused again are named and left where they are. What was sent back is
    marked, so that it is not sent a second time. Records of the registry go back only with --topic campaigns or by their coordinates,
    because an old one replaces what was applied since.
    """
    settings = load(config)
    now = datetime.now(UTC)
    wanted = make_filter(settings, reason, topic, since, now)
    named = {_coordinates(text) for text in records or ()}
    entries, _ = asyncio.run(folded(settings))
    unknown = sorted(named - entries.keys())
    if unknown:
        raise QuarantineCommandError(f"{unknown[0]}: not in {settings.topic(Topic.QUARANTINE)}; nothing was sent")
    registry = settings.topic(Topic.CAMPAIGNS)
    ready: list[Entry] = []
    skipped: Counter[str] = Counter()
    for coordinates, entry in entries.items():
        if not wanted.takes(entry.refused) or (named and coordinates not in named):
            continue
        if entry.replayed_at is not None and not again:
            skipped["sent back before (--again)"] += 1
        elif entry.refused.left_out_bytes:
            skipped["too long to be kept here: the log has them"] += 1
        elif coordinates.topic == registry and not named and registry not in wanted.topics:
            skipped["of the registry (--topic campaigns)"] += 1
        else:
            problem = still_wrong(settings, entry.refused, now)
            if problem is not None:
                typer.echo(f"{coordinates}: still invalid: {problem}" + (" (sent all the same)" if force else ""))
            if problem is None or force:
                ready.append(entry)
            else:
                skipped["still invalid (--force)"] += 1
    if ready and not dry_run:
        asyncio.run(_send_back(settings, ready, lambda: datetime.now(UTC)))
    by_topic = Counter(entry.refused.topic for entry in ready)
    would = "would be sent back" if dry_run else "sent back"
    typer.echo(f"{len(ready)} records {would}" + "".join(f", {count} to {name}" for name, count in sorted(by_topic.items())))
    for why, count in skipped.items():
        typer.echo(f"{count} left: {why}")


def still_wrong(settings: Settings, refused: Quarantined, now: datetime) -> str | None:
    """Why the workers would refuse the record again if it came at `now`; None when they would not."""
    topics = {settings.topic(topic): topic for topic in INPUT_TOPICS}
    if refused.topic not in topics:
        return f"{refused.topic} is not one of the topics that are read ({', '.join(topics)})"
    try:
        record = parse(topics[refused.topic], refused.value, refused.key, settings.money)
    except Refusal as refusal:
        return safe_text(f"{refusal.reason.value}: {refusal.detail}".encode("utf-8", "backslashreplace"))
    if isinstance(record, Event) and record.occurred_at > now + timedelta(milliseconds=FUTURE_MS):
        return f"{Reason.IN_FUTURE.value}: occurred_at {record.occurred_at.isoformat()} is still more than 5 minutes ahead"
    return None


async def _send_back(settings: Settings, entries: list[Entry], clock: Callable[[], datetime]) -> None:
    topics = [topic for topic in INPUT_TOPICS if any(entry.refused.topic == settings.topic(topic) for entry in entries)]
    known = {settings.topic(topic) for topic in topics}
    foreign = sorted({entry.refused.topic for entry in entries} - known)
    if foreign:
        raise QuarantineCommandError(f"{foreign[0]}: no topic of this installation; set kafka.topic_prefix to its own; nothing was sent")
    partitions = {settings.topic(topic): count for topic, count in (await check_kafka(settings, topics)).items()}
    async with Sender(settings) as sender:
        for start in range(0, len(entries), _ROUND):
            part = entries[start : start + _ROUND]
            for entry in part:
                refused = entry.refused
                # A key says where a record belongs; without one it goes back to where it was, so that a repeat of it is recognised.
                keyless = refused.partition if refused.key is None and refused.partition < partitions[refused.topic] else None
                await sender.send(refused.topic, [(refused.key, refused.value)], partition=keyless)
            # Marked only when delivered: interrupted in between, records go back twice, which the workers tell by their event ids.
            at = clock().isoformat(timespec="seconds").encode("ascii")
            copies = [(entry.key, entry.value) for entry in part]
            await sender.send(settings.topic(Topic.QUARANTINE), copies, headers=[(REPLAYED, at)])


def _coordinates(text: str) -> Coordinates:
    try:
        return Coordinates.parse(text)
    except QuarantineError as error:
        raise QuarantineCommandError(str(error)) from error


def _record_time(timestamp: int) -> str:
    try:
        return instant(datetime.fromtimestamp(timestamp / 1_000, UTC))
    except (OverflowError, ValueError, OSError):
        return f"{timestamp} ms"


def _summary(entry: Entry) -> dict[str, object]:
    refused = entry.refused
    return {
        "reason": refused.reason,
        "detail": refused.detail,
        "topic": refused.topic,
        "partition": refused.partition,
        "offset": refused.offset,
        "timestamp": refused.timestamp,
        "key": None if refused.key is None else safe_text(refused.key),
        "bytes": refused.left_out_bytes or len(refused.value or b""),
        "quarantined_at": refused.quarantined_at.isoformat(),
        "times": entry.times,
        "replayed_at": None if entry.replayed_at is None else entry.replayed_at.isoformat(),
    }


def _lines(entries: list[Entry]) -> Iterator[str]:
    """Two lines per record, whole at any width: what and where, then what is wrong."""
    width = max((len(str(entry.refused.coordinates)) for entry in entries), default=0)
    for entry in entries:
        refused = entry.refused
        again = " (sent back)" if entry.replayed_at is not None else ""
        place = f"{refused.coordinates!s:{width}}"
        yield printable(f"{instant(refused.quarantined_at)}  {place}  {refused.reason}{again}, key {key_text(refused.key)}")
        yield f"    {safe_text(refused.detail.encode())}"
