"""The mapping: how the rows of somebody's recorded file become events, written down as YAML.

A mapping says where a row's time is, which columns and constants fill which event fields, and which events a row makes: one for every
row, one for rows that meet a condition, as many as a count column says, or one spend report for the rows of a period together.
docs/replay.md explains the keys with examples; `streams/replay/mappings/` has complete ones.
"""

from __future__ import annotations

import re
import string
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from streams.config import EVENT_TOPICS, Topic
from streams.errors import UserError

#: Where the mappings that come with Campaignwatch are; `--mapping NAME` finds them without a path.
BUNDLED = Path(__file__).parent / "mappings"

_STRINGS = ("campaign_id", "channel", "account_id", "platform", "creative_id", "keyword", "region", "segment", "user_id")
_MORE_STRINGS = ("experiment_id", "variant_id", "ip", "user_agent", "landing_page")
_SHARED = (*_STRINGS, *_MORE_STRINGS)

#: Topic -> the fields that a mapping may fill. event_id has its template; occurred_at and the period come from `time`.
FIELDS: dict[Topic, tuple[str, ...]] = {
    Topic.CLICKS: (*_SHARED, "cost", "currency"),
    Topic.CONVERSIONS: (*_SHARED, "order_id", "kind", "value", "currency", "customer_type", "clicked_at"),
    Topic.ENGAGEMENTS: (*_SHARED, "kind", "cost", "currency", "dwell_ms", "load_ms", "term", "rating"),
    Topic.SPEND: (*_SHARED, "amount", "currency", "revision"),
}
MONEY_FIELDS = ("cost", "value", "amount")
INTEGER_FIELDS = ("dwell_ms", "load_ms", "revision")
NUMBER_FIELDS = ("rating",)

#: Words of an event_id template that are not columns.
ROW, FILE, EVENT, ITEM, NUMBER = "row", "file", "event", "item", "n"
RESERVED = (ROW, FILE, EVENT, ITEM, NUMBER)

Scalar = str | int | float | bool


class MappingError(UserError):
    """The mapping cannot be used, alone or with this file. The message names the mapping's file, the key and the reason."""


class Unit(StrEnum):
    """What one step of a numeric money column is worth, in units of the currency."""

    UNITS = "units"
    CENTS = "cents"
    MICROS = "micros"


class FileFormat(StrEnum):
    """Kinds of files that can be read."""

    CSV = "csv"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Column(_Strict):
    """A column that fills an event field. `user_id: uid` is short for `user_id: {column: uid}`."""

    column: str
    """The column's name; a field inside a JSON object is written with dots, `user.id`."""
    prefix: str = ""
    """Put before the value: `shop-` makes `shop-17` of 17."""
    unit: Unit = Unit.UNITS
    """Of a money column."""


class Slot(_Strict):
    """The time column is a day and another column numbers equal parts of it."""

    column: str
    per_day: Annotated[int, Field(ge=1, le=1_440)]
    """How many parts a day has: 24 for hours, 6 for four hours each."""
    first: int = 1
    """Number of the day's first part."""

    @field_validator("per_day")
    @classmethod
    def _whole_minutes(cls, per_day: int) -> int:
        if 1_440 % per_day:
            raise ValueError(f"a day does not divide into {per_day} parts of whole minutes")
        return per_day


class Time(_Strict):
    """When a row happened, or the period that it speaks of."""

    column: str
    format: str | None = None
    """strftime format of a text column (%Y-%m-%d %H:%M:%S%.f%:z); without it RFC 3339."""
    unit: Literal["s", "ms", "us", "ns"] | None = None
    """Of a numeric column: epoch seconds, milliseconds, ..."""
    zone: str = "UTC"
    """IANA time zone of times that carry no offset."""
    length: str | None = None
    """The row speaks of a period this long that starts at its time: 15m, 1h, 1d."""
    slot: Slot | None = None
    """The row speaks of a numbered part of the day in `column`."""

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{zone!r} is no IANA time zone, such as Europe/Berlin") from error
        return zone

    @field_validator("length")
    @classmethod
    def _known_length(cls, length: str | None) -> str | None:
        if length is not None and not 1 <= _minutes(length) <= 31 * 1_440:
            raise ValueError("write a length of 1 minute to 31 days as 15m, 1h or 1d")
        return length

    @model_validator(mode="after")
    def _one_way(self) -> Time:
        if self.format is not None and self.unit is not None:
            raise ValueError("give `format` for text or `unit` for numbers, not both")
        if self.length is not None and self.slot is not None:
            raise ValueError("give `length` or `slot`, not both")
        return self

    @property
    def period_ms(self) -> int | None:
        """Length of a row's period on the wall clock, ms; None where rows are moments."""
        if self.slot is not None:
            return 86_400_000 // self.slot.per_day
        return None if self.length is None else _minutes(self.length) * 60_000


class Event(_Strict):
    """One kind of event that rows make."""

    topic: Topic
    when: dict[str, Scalar | list[Scalar]] = {}
    """Column -> value, or a list of values: only rows that have it in every column named."""
    count: str | None = None
    """A column that says how many such events the row stands for; they are spread evenly over the row's period."""
    columns: dict[str, Column] = {}
    """Event field -> column; beside, and before, those of the whole mapping."""
    constants: dict[str, Scalar] = {}
    """Event field -> value; beside, and before, those of the whole mapping."""
    event_id: str | None = None
    """Template of the event's id: {file} {row} {event} {item} {n} or a column's name in braces. It must be the same in every run."""

    _short_columns = field_validator("columns", mode="before")(lambda value: _short(value))

    @field_validator("topic", mode="before")
    @classmethod
    def _event_topic(cls, topic: Any) -> Any:
        if topic not in EVENT_TOPICS:
            raise ValueError(f"a replay fills {', '.join(EVENT_TOPICS)}; {topic} is not among them")
        return topic


class Mapping(_Strict):
    """A whole mapping file."""

    description: str = ""
    """For people."""
    format: FileFormat | None = None
    """Kind of the files; without it their endings tell (.csv, .jsonl, .ndjson, .parquet, with .gz or .zst behind)."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What stands between a CSV file's columns."""
    explode: str | None = None
    """A column with a list: each element is handled as a row of its own. Its fields are named with a dot, `events.type`."""
    time: Time
    columns: dict[str, Column] = {}
    """Event field -> column, for every event that has the field."""
    constants: dict[str, Scalar] = {}
    """Event field -> value, for every event that has the field."""
    events: Annotated[list[Event], Field(min_length=1)]

    _short_columns = field_validator("columns", mode="before")(lambda value: _short(value))

    @model_validator(mode="after")
    def _fits_together(self) -> Mapping:
        for place, fields in (("columns", self.columns), ("constants", self.constants)):
            for name in fields:
                _known_field(f"{place}.{name}", name, tuple(dict.fromkeys(f for topic in FIELDS.values() for f in topic)))
        for number, event in enumerate(self.events):
            self._check_event(f"events.{number}", event)
        return self

    def _check_event(self, place: str, event: Event) -> None:
        for part, fields in (("columns", event.columns), ("constants", event.constants)):
            for name in fields:
                _known_field(f"{place}.{part}.{name}", name, FIELDS[event.topic])
        both = set(event.columns) & set(event.constants)
        if both:
            raise ValueError(f"{place}: {min(both)} is given as a column and as a constant")
        filled = {*self.fields_of(event)[0], *self.fields_of(event)[1]}
        for name in REQUIRED[event.topic]:
            if name not in filled:
                raise ValueError(f"{place}: {event.topic.value} needs `{name}`; add it to columns or constants")
        if event.topic is Topic.SPEND:
            if self.time.period_ms is None:
                raise ValueError(f"{place}: spend reports speak of a period; give time.length or time.slot")
            if event.count is not None:
                raise ValueError(f"{place}.count: spend reports are summed, not counted")
            if "amount" not in self.fields_of(event)[0]:
                raise ValueError(f"{place}: `amount` must be a column")
        if event.count is not None:
            if self.time.period_ms is None:
                raise ValueError(f"{place}.count: counted events are spread over a period; give time.length or time.slot")
            money = [name for name in MONEY_FIELDS if name in filled]
            if money:
                raise ValueError(f"{place}: `{money[0]}` would be booked once per counted event; use a spend report, or leave it out")
        for name, value in self.fields_of(event)[1].items():
            if name in (*MONEY_FIELDS, *INTEGER_FIELDS, *NUMBER_FIELDS) and not _is_number(value, whole=name in INTEGER_FIELDS):
                raise ValueError(f"{place}: {name}: got {value!r}, expected a {'whole ' if name in INTEGER_FIELDS else ''}number from 0")
        self._check_template(place, event)

    def _check_template(self, place: str, event: Event) -> None:
        try:
            names = template_names(self.template(event))
        except ValueError as error:
            raise ValueError(f"{place}.event_id: {error}") from error
        if not set(names) - {EVENT, FILE}:
            raise ValueError(f"{place}.event_id: every event would have the same id; use {{row}} or a column")
        if event.count is not None and NUMBER not in names:
            raise ValueError(f"{place}.event_id: counted events of one row need {{n}} to differ")
        if self.explode is not None and ROW in names and ITEM not in names:
            raise ValueError(f"{place}.event_id: the elements of one row need {{item}} to differ")
        if event.topic is Topic.SPEND and not set(names) <= set(RESERVED):
            raise ValueError(f"{place}.event_id: a report sums several rows; name none of their columns")

    def fields_of(self, event: Event) -> tuple[dict[str, Column], dict[str, Scalar]]:
        """Columns and constants of an event: its own, then the mapping's as far as the topic has the field."""
        own = {*event.columns, *event.constants}
        has = FIELDS[event.topic]
        columns = {n: c for n, c in self.columns.items() if n in has and n not in own}
        constants = {n: c for n, c in self.constants.items() if n in has and n not in own and n not in columns}
        return {**columns, **event.columns}, {**constants, **event.constants}

    def template(self, event: Event) -> str:
        """The event_id template, the event's own or the usual one."""
        if event.event_id is not None:
            return event.event_id
        item = ":{item}" if self.explode is not None else ""
        number = ":{n}" if event.count is not None else ""
        return "{file}:{row}" + item + ":{event}" + number

    def columns_named(self) -> dict[str, str]:
        """Every column of the file that is needed -> the key of the mapping that names it."""
        named: dict[str, str] = {}

        def note(column: str, key: str) -> None:
            named.setdefault(column, key)

        if self.explode is not None:
            note(self.explode, "explode")
        note(self.time.column, "time.column")
        if self.time.slot is not None:
            note(self.time.slot.column, "time.slot.column")
        for field, column in self.columns.items():
            note(column.column, f"columns.{field}")
        for number, event in enumerate(self.events):
            place = f"events.{number}"
            for column_name in event.when:
                note(column_name, f"{place}.when.{column_name}")
            if event.count is not None:
                note(event.count, f"{place}.count")
            for field, column in event.columns.items():
                note(column.column, f"{place}.columns.{field}")
            for name in template_names(self.template(event)):
                if name not in RESERVED:
                    note(name, f"{place}.event_id")
        return named


#: What an event cannot be without, beside its id and its time.
REQUIRED: dict[Topic, tuple[str, ...]] = {
    Topic.CLICKS: ("campaign_id", "channel"),
    Topic.CONVERSIONS: ("campaign_id", "channel", "kind"),
    Topic.ENGAGEMENTS: ("campaign_id", "channel", "kind"),
    Topic.SPEND: ("campaign_id", "channel", "platform", "amount"),
}


def template_names(template: str) -> list[str]:
    """Names in braces of an event_id template. Raises ValueError for one that cannot be read."""
    names = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion:
            raise ValueError(f"{template!r}: write {{row}} or a column's name in braces, without : or !")
        names.append(name)
    return names


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file; a bare name such as `otto` is one that comes with Campaignwatch.

    Raises MappingError with file, key and reason.
    """
    bundled = BUNDLED / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.exists() and path.parent == Path(".") and bundled.exists():
        path = bundled
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = ", ".join(sorted(p.stem for p in BUNDLED.glob("*.yaml")))
        raise MappingError(f"{path}: cannot be read: {error.strerror}; mappings that need no file: {names}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MappingError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise MappingError(f"{path}: a mapping has keys such as `time:` and `events:`")
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        raise MappingError("\n".join(f"{path}: {_where(e['loc'])}{_reason(e['type'], e['msg'])}" for e in error.errors())) from error


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) + ": " if location else ""


def _reason(kind: str, message: str) -> str:
    known = {"extra_forbidden": "there is no such key; docs/replay.md has all keys", "missing": "this key is needed"}
    return known.get(kind, message.removeprefix("Value error, "))


def _known_field(place: str, name: str, known: tuple[str, ...]) -> None:
    if name in known:
        return
    if name == "event_id":
        raise ValueError(f"{place}: write it as a template, `event_id: '{{column}}'`, beside `topic`")
    if name in ("occurred_at", "period_start", "period_end"):
        raise ValueError(f"{place}: comes from `time`")
    raise ValueError(f"{place}: there is no such field here; there are {', '.join(known)}")


def _is_number(value: Scalar, *, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    if whole:
        return isinstance(value, int) and value >= 0
    try:
        return 0 <= Decimal(str(value)) <= 1_000_000_000
    except InvalidOperation:
        return False


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {field: {"column": column} if isinstance(column, str) else column for field, column in value.items()}
    return value


def _minutes(length: str) -> int:
    found = re.fullmatch(r"(\d{1,5})([mhd])", length)
    if found is None:
        return 0
    return int(found[1]) * {"m": 1, "h": 60, "d": 1_440}[found[2]]
