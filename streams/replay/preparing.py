"""Rows of a file made ready: the time or period as epoch milliseconds, the count as an integer, the columns as event fields.

Everything is done on whole columns. A row that cannot be read that way is taken out and becomes a `Fault`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from streams.replay.mapping import (
    INTEGER_FIELDS,
    MONEY_FIELDS,
    NUMBER_FIELDS,
    REQUIRED,
    RESERVED,
    Column,
    Event,
    Mapping,
    Scalar,
    Time,
    Unit,
    template_names,
)
from streams.replay.reading import ITEM, ROW, Fault

#: Columns of a prepared frame beside ROW and ITEM. Periods are [START, END), epoch ms; a moment has END = START.
START, END = "\x00start", "\x00end"
#: How many events the row makes, from 1.
COUNT = "\x00count"
#: The file's tag in event ids.
TAG = "\x00tag"
#: Before the name of an event field. Money is in micros of its own currency until it is written.
FIELD = "\x00field:"
#: Before the name of a column that an event_id template names.
NAMED = "\x00named:"

#: A row that stands for more events than this is taken for a mistake.
MAX_COUNT = 100_000_000
_MICROS_PER_STEP = {Unit.CENTS: 10_000, Unit.MICROS: 1}
_DAY_MS = 86_400_000
_HOUR = re.compile("%[HIkTRXrsc+]")
_MINUTE = re.compile("%[MTRXrsc+]")
_CONTAINERS = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Binary)


class ColumnError(ValueError):
    """A column cannot be what the mapping takes it for, whatever its rows hold; the message names key, column and reason."""


@dataclass(slots=True)
class Prepared:
    """Rows that make one kind of event: ROW, ITEM, TAG, START, END, COUNT, FIELD + each event field, NAMED + each template column."""

    #: Position of the event in the mapping's list.
    number: int
    event: Event
    frame: pl.DataFrame


def prepare(mapping: Mapping, tag: str, frame: pl.DataFrame) -> tuple[list[Prepared], list[Fault]]:
    """What each event of the mapping makes of a batch of rows (lists already exploded), and the rows that cannot be used.

    `tag` is what {file} stands for. Columns that the batch does not have count as empty. Raises ColumnError.
    """
    absent: dict[str, pl.DataType] = {name: pl.String() for name in mapping.columns_named() if name not in frame.columns}
    if ITEM not in frame.columns:
        absent[ITEM] = pl.Int64()
    frame = frame.with_columns(pl.lit(tag).alias(TAG), *(pl.lit(None, dtype).alias(name) for name, dtype in absent.items()))
    faults: list[Fault] = []
    timed = _timed(frame, mapping.time, faults)
    prepared = [_prepare_event(mapping, number, event, timed, faults) for number, event in enumerate(mapping.events)]
    return prepared, list(dict.fromkeys(faults))


def _prepare_event(mapping: Mapping, number: int, event: Event, frame: pl.DataFrame, faults: list[Fault]) -> Prepared:
    for condition, wanted in event.when.items():
        frame = frame.filter(_is(frame, condition, wanted if isinstance(wanted, list) else [wanted]))
    counts = pl.lit(1, pl.Int64)
    if event.count is not None:
        frame = _refuse(frame, _fails(frame, event.count, _whole(frame, event.count)), event.count, "expected a whole number", faults)
        counts = _whole(frame, event.count).fill_null(0)
        # A row that stands for no event is no fault; one that stands for less than none is.
        frame = _refuse(frame, ~counts.is_between(0, MAX_COUNT), event.count, f"expected 0 to {MAX_COUNT:,}", faults)
    frame = frame.with_columns(counts.alias(COUNT)).filter(pl.col(COUNT) > 0)
    columns, constants = mapping.fields_of(event)
    for field, column in columns.items():
        if isinstance(frame.schema[column.column], _CONTAINERS):
            raise ColumnError(f"events.{number}: {field}: column {column.column!r} holds {frame.schema[column.column]}, not single values")
        value = _value(frame, field, column)
        frame = _refuse(frame, _fails(frame, column.column, value), column.column, _EXPECTED.get(field, "expected text"), faults)
        frame = frame.with_columns(value.alias(FIELD + field))
    frame = frame.with_columns(_constant(field, value).alias(FIELD + field) for field, value in constants.items())
    for field in REQUIRED[event.topic]:
        source = columns[field].column if field in columns else field
        frame = _refuse(frame, pl.col(FIELD + field).is_null(), source, f"`{field}` must not be empty", faults)
    named = [name for name in template_names(mapping.template(event)) if name not in RESERVED]
    frame = frame.with_columns(_text(frame, name).alias(NAMED + name) for name in named)
    for name in named:
        frame = _refuse(frame, pl.col(NAMED + name).is_null(), name, "the event's id must not be empty", faults)
    fields = (FIELD + field for field in (*columns, *constants))
    return Prepared(number, event, frame.select(ROW, ITEM, TAG, START, END, COUNT, *fields, *(NAMED + name for name in named)))


_EXPECTED = (
    dict.fromkeys(MONEY_FIELDS, "expected money: digits with an optional fraction, no sign")
    | dict.fromkeys(INTEGER_FIELDS, "expected a whole number")
    | dict.fromkeys(NUMBER_FIELDS, "expected a number")
)


def _refuse(frame: pl.DataFrame, bad: pl.Expr, column: str, expected: str, faults: list[Fault]) -> pl.DataFrame:
    """`frame` without the rows that are `bad`; each of them becomes a fault that quotes `column`."""
    marked = frame.select(bad.fill_null(False)).to_series()
    if not marked.any():
        return frame
    for row, value in frame.filter(marked).select(ROW, pl.col(column) if column in frame.columns else pl.lit(None)).iter_rows():
        faults.append(Fault(row, f"{column}: got {_quoted(value)}; {expected}"))
    return frame.filter(~marked)


def _quoted(value: object) -> str:
    if value is None or value == "":
        return "nothing"
    text = str(value)
    return repr(text if len(text) <= 60 else text[:60] + "...") if isinstance(value, str) else text[:60]


def _fails(frame: pl.DataFrame, column: str, value: pl.Expr) -> pl.Expr:
    """Whether a column holds something of which no `value` could be made."""
    return value.is_null() & _text(frame, column).is_not_null()


def _text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as text, null where it is empty."""
    text = pl.col(column).cast(pl.String)
    return pl.when(text.str.len_bytes() > 0).then(text)


def _number_text(frame: pl.DataFrame, column: str) -> pl.Expr:
    return _text(frame, column).str.strip_chars()


def _whole(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as Int64, null where it is empty or no whole number."""
    dtype = frame.schema[column]
    if dtype.is_integer():
        return pl.col(column).cast(pl.Int64, strict=False)
    if dtype.is_float():
        return pl.when(pl.col(column).floor() == pl.col(column)).then(pl.col(column)).cast(pl.Int64, strict=False)
    # Some exporters write counts as 12.0.
    return _number_text(frame, column).str.replace(r"^([+-]?\d+)\.0*$", "${1}").cast(pl.Int64, strict=False)


def _money(frame: pl.DataFrame, column: str, unit: Unit) -> pl.Expr:
    """A money column in micros, Int64; null where it is empty or no money."""
    if unit is not Unit.UNITS:
        steps = _whole(frame, column)
        return pl.when(steps >= 0).then(steps * _MICROS_PER_STEP[unit])
    if frame.schema[column].is_float():
        # A double is the nearest one to a decimal that somebody wrote; its shortest digits are that decimal.
        number = pl.col(column).cast(pl.Float64)
        return pl.when(number.is_between(0, 1e9)).then((number * 1e6).round(0)).cast(pl.Int64, strict=False)
    text = _number_text(frame, column)
    amount = pl.when(text.str.contains(r"^\d{1,12}(\.\d{1,20})?$")).then(text).cast(pl.Decimal(38, 6), strict=False)
    return (amount * 1_000_000).cast(pl.Int64, strict=False)


def _value(frame: pl.DataFrame, field: str, column: Column) -> pl.Expr:
    """An event field's value from its column, in the field's own type; null where absent or unreadable."""
    if field in MONEY_FIELDS:
        return _money(frame, column.column, column.unit)
    if field in INTEGER_FIELDS:
        return _whole(frame, column.column)
    if field in NUMBER_FIELDS:
        return _number_text(frame, column.column).cast(pl.Float64, strict=False)
    text = _text(frame, column.column)
    if column.prefix:
        text = pl.lit(column.prefix) + text
    return text.str.to_lowercase() if field == "channel" else text


def _constant(field: str, value: Scalar) -> pl.Expr:
    if field in INTEGER_FIELDS or field in NUMBER_FIELDS:
        return pl.lit(value)
    if field in MONEY_FIELDS:
        return pl.lit(_micros_of(value), pl.Int64)
    return pl.lit(_scalar_text(value).lower() if field == "channel" else _scalar_text(value), pl.String)


def _micros_of(value: Scalar) -> int:
    return int(Decimal(str(value)).scaleb(6).to_integral_value())


def _scalar_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is(frame: pl.DataFrame, column: str, wanted: list[Scalar]) -> pl.Expr:
    """Whether a column holds one of the values: numbers are compared as numbers, everything else as text."""
    found = pl.lit(False)
    for value in wanted:
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = found | (_number_text(frame, column).cast(pl.Float64, strict=False) == float(value))
        else:
            found = found | (_text(frame, column) == _scalar_text(value))
    return found.fill_null(False)


def _timed(frame: pl.DataFrame, time: Time, faults: list[Fault]) -> pl.DataFrame:
    """`frame` with START and END; rows without a readable time are taken out."""
    expected = "expected an RFC 3339 time"
    if time.format is not None or time.unit is not None:
        expected = f"expected a time as {time.format}" if time.format is not None else f"expected epoch {time.unit}"
    name = time.column
    local = _moment(frame, time)
    frame = _refuse(frame, local.is_null(), name, expected, faults)
    local = _moment(frame, time)
    if time.slot is not None:
        last = time.slot.first + time.slot.per_day - 1
        outside = ~_whole(frame, time.slot.column).is_between(time.slot.first, last).fill_null(False)
        frame = _refuse(frame, outside, time.slot.column, f"expected {time.slot.first} to {last}", faults)
        local = _moment(frame, time).dt.truncate("1d")
        part = pl.duration(milliseconds=_DAY_MS // time.slot.per_day)
        since = _whole(frame, time.slot.column) - time.slot.first
        start, end = _instant(frame, local + part * since, time), _instant(frame, local + part * (since + 1), time)
    elif time.period_ms is not None:
        start = _instant(frame, local, time)
        end = start + time.period_ms
    else:
        start = end = _instant(frame, local, time)
    frame = frame.with_columns(start.alias(START), end.alias(END))
    return _refuse(frame, pl.col(START).is_null() | pl.col(END).is_null(), name, f"there is no such time in {time.zone}", faults)


def _moment(frame: pl.DataFrame, time: Time) -> pl.Expr:
    """The time column as a datetime in microseconds: in UTC where it says its offset, else naive and meant in `time.zone`."""
    column = pl.col(time.column)
    dtype = frame.schema[time.column]
    if isinstance(dtype, pl.Datetime):
        return column.dt.cast_time_unit("us") if dtype.time_zone is None else column.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if time.unit is not None:
        per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[time.unit]
        if dtype.is_float():
            micros = (column * (1_000_000 / per_second)).floor().cast(pl.Int64, strict=False)
        else:
            whole = _whole(frame, time.column)
            micros = whole * (1_000_000 // per_second) if per_second <= 1_000_000 else whole.floordiv(1_000)
        return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    text = _number_text(frame, time.column)
    if time.format is not None:
        if not _HOUR.search(time.format):
            return text.str.to_date(time.format, strict=False, exact=True).cast(pl.Datetime("us"))
        if _MINUTE.search(time.format):
            return text.str.to_datetime(time.format, time_unit="us", strict=False, exact=True)
        # An hour alone is no time of day to the parser.
        return (text + "|00").str.to_datetime(time.format + "|%M", time_unit="us", strict=False, exact=True)
    normal = text.str.to_uppercase().str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T").str.replace(r"Z$", "+00:00")
    return normal.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False, exact=True)


def _instant(frame: pl.DataFrame, local: pl.Expr, time: Time) -> pl.Expr:
    """Epoch ms of a datetime, rounded down. Of a local time that came twice the first is meant; one that never came is null."""
    dtype = frame.clear().select(local).to_series().dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        local = local.dt.replace_time_zone(time.zone, ambiguous="earliest", non_existent="null")
    return local.dt.epoch("us").floordiv(1_000)
