"""The command `campaignwatch validate`: what the workers would say of a file of events, line by line, before anything is sent.

Every event goes to the workers' own arbiter, `events.parsing`, so that the two cannot disagree. Beside what it refuses, the command warns
of what is taken but probably not meant: a field that nobody reads, a time that would come too late or too early, an id that came before.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from streams.config import INPUT_TOPICS, Settings, Topic, load
from streams.errors import UserError
from streams.events.json_text import MAX_BYTES, Number, read_object
from streams.events.models import FUTURE_MS, MODELS, Event, Spend, unknown_fields
from streams.events.parsing import described, parse
from streams.events.refusal import Reason, Refusal
from streams.events.times import to_epoch_ms
from streams.options import ConfigOption
from streams.panes.ladder import DAY_MS, Ladder
from streams.quarantine.showing import safe_text

#: Ids that are remembered to find those that come again; the oldest are forgotten first.
REMEMBERED = 100_000
#: An array, or objects over several lines, are read whole.
LARGEST_DOCUMENT = 16 * 1_048_576
#: Different unknown fields that are told one by one.
_MOST_NAMES = 1_000
_LONGEST_NAME = 100
#: A line longer than this is too large in any case, and is not kept.
_KEPT = MAX_BYTES + len(b"\r\n") + 1
_BLANK = b" \t\r\n"


class ValidateError(UserError):
    """The file cannot be checked. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of the file that should be one event."""

    line: int
    """Where it begins, from 1."""
    value: bytes
    size: int
    """Bytes that it has; `value` holds fewer only when there are more than any event may have."""
    broken: str = ""
    """Why neither it nor what follows can be told apart; `value` is empty then."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an event, or probably not meant."""

    line: int
    reason: str
    """A refusal's stable code; of a warning unknown_field, in_future, too_late or duplicate."""
    detail: str
    refused: bool


def validate(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON Lines; also one JSON object, or an array of them. - is standard input.")
    ],
    topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC", help="clicks, conversions, engagements, spend or campaigns. May be left out when FILE's name has it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per problem, and one that sums up.")] = False,
    config: ConfigOption = None,
) -> None:
    """Check a file of events as the workers will, and say what is wrong, line by line. Nothing is sent.

    Spend reports and campaigns are taken to be keyed by their campaign_id. Exit status: 1 when the workers would refuse something.
    """
    settings = load(config)
    checker = Checker(topic_of(file, topic, settings), settings, time.time_ns() // 1_000_000)
    name = _shown(file)
    for found in _pieces_of(file):
        for problem in checker.check(found):
            typer.echo(_as_json(name, problem) if as_json else _as_text(name, problem))
    _sum_up(name, checker, as_json)
    if config is None and checker.reasons[Reason.UNKNOWN_CURRENCY.value]:
        typer.echo("Rates are settings of the installation; --config FILE reads them.", err=True)
    if checker.refused:
        raise typer.Exit(1)


def topic_of(file: str, topic: str | None, settings: Settings) -> Topic:
    """The topic that is named, or else the one that the file's name names. Raises ValidateError when there is none, or no such."""
    choice = ", ".join(INPUT_TOPICS)
    if topic is not None:
        for known in INPUT_TOPICS:
            if topic in (known.value, settings.topic(known)):
                return known
        raise ValidateError(f"--topic {topic}: producers write to {choice}")
    named = [known for known in INPUT_TOPICS if known.value in Path(file).name.lower()]
    if len(named) != 1:
        why = (
            f"the file's name has {' and '.join(named)}" if named else "only a file whose name has a topic's, such as clicks.jsonl, says it"
        )
        raise ValidateError(f"{_shown(file)}: which topic is it for? Name it with --topic ({choice}); {why}")
    return named[0]


# From a file to pieces.


def _pieces_of(file: str) -> Iterator[Found]:
    try:
        if file == "-":
            yield from pieces(sys.stdin.buffer)
            return
        with Path(file).open("rb") as stream:
            yield from pieces(stream)
    except OSError as error:
        raise ValidateError(f"{_shown(file)}: cannot be read: {error.strerror}") from error


def pieces(stream: BinaryIO) -> Iterator[Found]:
    """Everything in the stream that should be an event: each line, or what a JSON array holds, or indented objects one after another.

    Lines are read one by one. Raises ValidateError for an array or indented objects of more than LARGEST_DOCUMENT bytes.
    """
    number = 1
    while (head := stream.readline(_KEPT)) and not head.strip(_BLANK):
        number += 1
    start = head.strip(_BLANK)
    if start.startswith(b"[") or start == b"{":
        document = head + stream.read(LARGEST_DOCUMENT)
        if len(document) > LARGEST_DOCUMENT:
            limit = f"at most {LARGEST_DOCUMENT >> 20} MiB"
            raise ValidateError(f"an array, or objects over several lines, are read whole, {limit}; write one event a line")
        # Bytes that are no UTF-8 are carried through, for the arbiter to refuse.
        yield from _values(document.decode("utf-8", "surrogateescape"), number)
        return
    for place, (line, size) in enumerate(_lines(stream, head), number):
        if line.strip(_BLANK):
            yield Found(place, line, size)


def _lines(stream: BinaryIO, part: bytes) -> Iterator[tuple[bytes, int]]:
    """Lines without their ends, and their sizes; of one that is too large only the start. `part` is what was read of the first."""
    while part:
        line, size = part, len(part)
        while not part.endswith(b"\n") and (part := stream.readline(_KEPT)):
            size += len(part)
        ending = len(part) - len(part.rstrip(b"\r\n"))
        yield line[: size - ending], size - ending
        part = stream.readline(_KEPT)


def _values(text: str, line: int) -> Iterator[Found]:
    """The values of a JSON array, or values one after another, each as it is written; `line` is that of the text's start."""
    ends = [match.start() for match in re.finditer("\n", text)]

    def broken(at: int, why: str) -> Found:
        return Found(line + bisect_left(ends, at), b"", 0, f"not JSON: {why}; from here on nothing was looked at")

    # Numbers stay text and strings may hold anything: only where a value ends is asked here.
    decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)
    at = _next(text, 0)
    array = text.startswith("[", at)
    if array:
        at = _next(text, at + 1)
    closed = array and text.startswith("]", at)
    while not closed and (array or at < len(text)):
        try:
            end = decoder.raw_decode(text, at)[1]
        except json.JSONDecodeError as error:
            yield broken(error.pos, error.msg)
            return
        except RecursionError:
            yield broken(at, "nested too deeply to be told from what follows")
            return
        value = text[at:end].encode("utf-8", "surrogateescape")
        yield Found(line + bisect_left(ends, at), value, len(value))
        at = _next(text, end)
        if array:
            closed = text.startswith("]", at)
            if not closed and not text.startswith(",", at):
                yield broken(at, "expected a comma and the next event, or the array's end")
                return
            at = _next(text, at if closed else at + 1)
    if closed and _next(text, at + 1) < len(text):
        yield broken(_next(text, at + 1), "something follows the array")


def _next(text: str, at: int) -> int:
    """Where the next character stands that is not blank."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


# From pieces to problems.


class Checker:
    """Judges the events of one topic, one after another, as if they were sent at `now` (epoch ms)."""

    def __init__(self, topic: Topic, settings: Settings, now: int) -> None:
        self.topic = topic
        self.events = 0
        self.refused = 0
        self.warnings = 0
        #: How often each reason came up.
        self.reasons: Counter[str] = Counter()
        #: In how many events each unknown field stands.
        self.unknown: Counter[str] = Counter()
        self._settings = settings
        self._now = now
        self._retention = Ladder(settings.streams.ladder).retention
        #: What came before -> its line and, of a spend report, its revision.
        self._before: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()

    @property
    def valid(self) -> int:
        """Events that would be counted, warnings or not."""
        return self.events - self.refused

    def check(self, found: Found) -> list[Problem]:
        """What is to be told of the event, a refusal first. An unknown field is told once and counted from then on."""
        self.events += 1
        told: list[Problem] = []
        try:
            content = self._content(found)
            told += self._unknown_fields(content, found.line)
            campaign_id = content.get("campaign_id")
            key = campaign_id.encode("utf-8", "surrogatepass") if isinstance(campaign_id, str) else None
            record = parse(self.topic, found.value, key, self._settings.money)
        except Refusal as refusal:
            self.refused += 1
            self.reasons[refusal.reason.value] += 1
            return [Problem(found.line, refusal.reason.value, refusal.detail, True), *told]
        if isinstance(record, Event):
            told += [
                self._warning(found.line, reason, detail)
                for reason, detail in (*self._out_of_time(record, content), *self._came_before(record, found.line))
            ]
        return told

    def _warning(self, line: int, reason: str, detail: str) -> Problem:
        self.warnings += 1
        self.reasons[reason] += 1
        return Problem(line, reason, detail, False)

    @staticmethod
    def _content(found: Found) -> dict[str, Any]:
        if found.broken:
            raise Refusal(Reason.MALFORMED, found.broken)
        if found.size > MAX_BYTES:
            raise Refusal(Reason.TOO_LARGE, f"the value has {found.size} bytes; at most {MAX_BYTES} are taken")
        return read_object(found.value)

    def _unknown_fields(self, content: Mapping[str, Any], line: int) -> Iterator[Problem]:
        for holder, name, absent in unknown_fields(content, MODELS[self.topic]):
            shown = (holder + name)[:_LONGEST_NAME]
            first = shown not in self.unknown and len(self.unknown) < _MOST_NAMES
            if first or shown in self.unknown:
                self.unknown[shown] += 1
            like = difflib.get_close_matches(_as_ours(name), absent, n=1, cutoff=0.75) if first else []
            problem = self._warning(
                line,
                "unknown_field",
                f"{described(shown)}: there is no such field, it is ignored" + "".join(f"; did you mean {holder}{each}?" for each in like),
            )
            if first:
                yield problem

    def _out_of_time(self, event: Event, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        occurred_at = to_epoch_ms(event.occurred_at)
        ahead = occurred_at - self._now
        if ahead > FUTURE_MS:
            allowed = f"at most {_length(FUTURE_MS)} are allowed"
            yield Reason.IN_FUTURE.value, f"occurred_at is {_length(ahead)} ahead of now; sent now it would be quarantined, {allowed}"
            return
        name, moment = ("period_end", to_epoch_ms(event.period_end)) if isinstance(event, Spend) else ("occurred_at", occurred_at)
        if self._now - moment > self._retention:
            # Seconds since 1970, taken for milliseconds, are a time in January of that year.
            seconds = isinstance(content.get(name), Number) and -self._retention <= moment * 1_000 - self._now <= FUTURE_MS
            yield (
                "too_late",
                f"{name} is {_length(self._now - moment)} ago; sent now it would not be counted, tables go back {_length(self._retention)}"
                + ("; it looks like seconds where milliseconds are expected" if seconds else ""),
            )

    def _came_before(self, event: Event, line: int) -> Iterator[tuple[str, str]]:
        if isinstance(event, Spend):
            identity: Hashable = (event.campaign_id, event.platform, event.period_start, event.period_end)
            revision = event.revision
        else:
            identity, revision = event.event_id, 0
        before = self._before.get(identity)
        if before is None or revision > before[1]:
            self._before[identity] = (line, revision)
            if len(self._before) > REMEMBERED:
                self._before.popitem(last=False)
        elif isinstance(event, Spend):
            yield (
                "duplicate",
                f"line {before[0]} has this campaign, platform and period with revision {before[1]}; only a higher revision replaces it",
            )
        else:
            horizon = _length(int(self._settings.streams.dedupe_horizon * 1_000))
            yield "duplicate", f"event_id is that of line {before[0]}; sent with the same key within {horizon}, only the first counts"


def _as_ours(name: str) -> str:
    """campaignId, Campaign-Id and "campaign id " as campaign_id."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:256]).lower()).strip("_")


def _length(ms: int) -> str:
    """A length of time in one unit, rounded: 7 min, 20 h, 400 days."""
    for size, unit in ((2 * DAY_MS, "days"), (2 * 3_600_000, "h"), (2 * 60_000, "min")):
        if ms >= size:
            return f"{ms / (size // 2):.0f} {unit}"
    return f"{ms / 1_000:.0f} s"


# From problems to words.


def _shown(file: str) -> str:
    return "stdin" if file == "-" else safe_text(os.fsencode(file))


def _as_text(name: str, problem: Problem) -> str:
    detail = safe_text(problem.detail.encode("utf-8", "backslashreplace"))
    return f"{name}:{problem.line}: {'' if problem.refused else 'warning: '}{problem.reason}: {detail}"


def _as_json(name: str, problem: Problem) -> str:
    level = "refused" if problem.refused else "warning"
    return json.dumps({"file": name, "line": problem.line, "level": level, "reason": problem.reason, "detail": problem.detail})


def _sum_up(name: str, checker: Checker, as_json: bool) -> None:
    if as_json:
        counts = {"events": checker.events, "valid": checker.valid, "refused": checker.refused, "warnings": checker.warnings}
        found = {"reasons": dict(checker.reasons), "unknown_fields": dict(checker.unknown)}
        typer.echo(json.dumps({"file": name, "topic": checker.topic.value, **counts, **found}))
        return
    for field, count in checker.unknown.items():
        if count > 1:
            typer.echo(f"{name}: warning: unknown_field: {described(field)} is in {count} events; only the first is shown")
    plural = ("s" if checker.events != 1 else "", "s" if checker.warnings != 1 else "")
    typer.echo(
        f"{checker.events} event{plural[0]}: {checker.valid} valid, {checker.refused} refused, {checker.warnings} warning{plural[1]}"
    )
