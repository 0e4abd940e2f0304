"""The types of fields: what each takes, in code, in words and as JSON Schema.

A type reads one present value (null and "" are absent and never get here) and gives the Python value, or raises ValueError with what was
expected, and why where that is not obvious. `events.parsing` adds the field's name and what came.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar
from zoneinfo import available_timezones

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

from streams.events import money, times
from streams.events.json_text import Number

#: C0, DEL and C1.
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
#: Largest integer that the tables hold.
LARGEST_INTEGER = 2**63 - 1

T = TypeVar("T")


class FieldType(ABC):
    """How one kind of field is read, and how documents show it."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """The Python value of a present JSON value; raises ValueError("expected ...")."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a present value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema()


def _literal(value: Any) -> str | None:
    """The text of a number: as sent, or as JSON would write one made in Python. None for everything else."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return repr(value)
    return str(value) if isinstance(value, Decimal) else None


def _text(value: Any, expected: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {expected}")
    if _SURROGATE.search(value):
        raise ValueError(f"expected {expected}; it holds a lone surrogate, half of a character")
    return value


@dataclass(frozen=True)
class Text(FieldType):
    """A string of 1 to `longest` code points."""

    longest: int
    lower_case: bool = False
    control_characters: bool = True

    @override
    def read(self, value: Any) -> str:
        expected = f"a string of 1 to {self.longest} characters"
        text = _text(value, expected)
        if not 0 < len(text) <= self.longest:
            raise ValueError(f"expected {expected}")
        if not self.control_characters and CONTROL_CHARACTER.search(text):
            raise ValueError(f"expected {expected}, none of them a control character")
        return text.lower() if self.lower_case else text

    @override
    def schema(self) -> dict[str, Any]:
        schema = {"type": "string", "minLength": 1, "maxLength": self.longest}
        return schema if self.control_characters else schema | {"not": {"pattern": r"[\u0000-\u001f\u007f-\u009f]"}}


@dataclass(frozen=True)
class Pattern(FieldType):
    """A string of a given form."""

    pattern: str
    expected: str
    upper_case: bool = False
    reserved: tuple[str, ...] = ()

    @override
    def read(self, value: Any) -> str:
        text = _text(value, self.expected)
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"expected {self.expected}")
        if text in self.reserved:
            raise ValueError(f"expected {self.expected}; {text} is reserved")
        return text.upper() if self.upper_case else text

    @override
    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string", "pattern": f"^{self.pattern}$"}
        return schema | {"not": {"enum": list(self.reserved)}} if self.reserved else schema


@dataclass(frozen=True)
class OneOf(FieldType):
    """One of a few words."""

    words: tuple[str, ...]

    @override
    def read(self, value: Any) -> str:
        expected = " or ".join(self.words)
        if _text(value, expected) not in self.words:
            raise ValueError(f"expected {expected}")
        return str(value)

    @override
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Whole(FieldType):
    """An integer written as one: 5, not 5.0, 5e0 or "5"."""

    most: int

    @override
    def read(self, value: Any) -> int:
        text = None if isinstance(value, float) else _literal(value)
        if text is None or not re.fullmatch(r"-?[0-9]+", text):
            raise ValueError(f"expected an integer from 0 to {self.most}, without quotes, point or exponent")
        digits = text.lstrip("-0")
        if (digits and text.startswith("-")) or len(digits) > len(str(self.most)) or int(digits or 0) > self.most:
            raise ValueError(f"expected an integer from 0 to {self.most}")
        return int(digits or 0)

    @override
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 0, "maximum": self.most}


#: A decimal string from 0 to 1e9.
_AMOUNT = r"^0*([0-9]{1,9}(\.[0-9]+)?|1000000000(\.0+)?)$"


@dataclass(frozen=True)
class Amount(FieldType):
    """A number of 0 to 1e9, exact to six decimals: a JSON number by its text, or a decimal string."""

    @override
    def read(self, value: Any) -> Decimal:
        expected = f"a number from 0 to {money.MAX_AMOUNT}, or the same as a decimal string"
        number = _literal(value)
        try:
            if number is not None:
                return money.to_decimal(money.micros_of_number(number))
            return money.to_decimal(money.micros_of_string(_text(value, expected)))
        except money.NotInRange as error:
            raise ValueError(f"expected {expected}; it is out of range") from error
        except ValueError as error:
            hint = "; a decimal string has digits and an optional fraction, no sign, exponent or blanks" if isinstance(value, str) else ""
            raise ValueError(f"expected {expected}{hint}") from error

    @override
    def schema(self) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": money.MAX_AMOUNT},
                {"type": "string", "pattern": _AMOUNT},
            ]
        }


@dataclass(frozen=True)
class Hundredths(FieldType):
    """A JSON number from 0 to `most`, rounded half-even to hundredths; the Python value is in hundredths."""

    most: int

    @override
    def read(self, value: Any) -> int:
        number = _literal(value)
        try:
            return money.scaled(number if number is not None else "", 2, self.most)
        except ValueError as error:
            raise ValueError(f"expected a number from 0 to {self.most}, without quotes") from error

    @override
    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": 0, "maximum": self.most}


#: A day and a time of the day, as far as a pattern can tell them.
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"


@dataclass(frozen=True)
class Instant(FieldType):
    """A moment: RFC 3339 with an offset, or integer epoch milliseconds."""

    whole_minutes: bool = False

    @override
    def read(self, value: Any) -> datetime:
        expected = "an RFC 3339 time with an offset, such as 2026-11-23T03:24:33.123Z, or integer epoch milliseconds"
        try:
            epoch_ms = self._epoch_ms(value, expected)
        except ValueError as error:
            because = f"; {error}" if str(error) else ""
            raise ValueError(f"expected {expected}{because}") from error
        if self.whole_minutes and epoch_ms % 60_000:
            raise ValueError("expected a whole minute, seconds and fraction zero")
        return times.to_datetime(epoch_ms)

    def _epoch_ms(self, value: Any, expected: str) -> int:
        if isinstance(value, str):
            return times.epoch_ms_of_text(value)
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("it has no offset from UTC")
            return times.to_epoch_ms(value)
        text = None if isinstance(value, float) else _literal(value)
        if text is None:
            raise ValueError
        if not re.fullmatch(r"-?[0-9]+", text):
            raise ValueError("epoch milliseconds are written without point or exponent")
        digits = text.lstrip("-0")
        # 18 digits are far outside the years that are taken.
        return times.checked_range(int(digits[:18] or 0) * (-1 if text.startswith("-") else 1))

    @override
    def schema(self) -> dict[str, Any]:
        second = r"00(\.(0{1,2}|000[0-9]*))?" if self.whole_minutes else r"[0-5][0-9](\.[0-9]+)?"
        text = {"type": "string", "pattern": f"^{_DATE}[Tt ]{_TIME}:{second}([Zz]|[+-]{_TIME})$"}
        number = {"type": "integer", "minimum": times.EARLIEST_MS, "maximum": times.LATEST_MS}
        return {"anyOf": [text, number | {"multipleOf": 60_000} if self.whole_minutes else number]}


@dataclass(frozen=True)
class Day(FieldType):
    """A calendar date, YYYY-MM-DD."""

    @override
    def read(self, value: Any) -> date:
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            return times.date_of_text(_text(value, "a date such as 2026-11-23"))
        except ValueError as error:
            raise ValueError("expected a date such as 2026-11-23") from error

    @override
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date", "pattern": f"^{_DATE}$"}


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


@dataclass(frozen=True)
class TimeZone(FieldType):
    """A time zone by its IANA name."""

    @override
    def read(self, value: Any) -> str:
        expected = "an IANA time zone such as Europe/Berlin or UTC"
        if _text(value, expected) not in _zones():
            raise ValueError(f"expected {expected}")
        return str(value)

    @override
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "examples": ["UTC", "Europe/Berlin", "America/New_York"]}


#: Weights that a pacing curve may have: one per minute of the day at most.
LONGEST_CURVE = 1_440


@dataclass(frozen=True)
class Pacing(FieldType):
    """How a budget is to be spent over the day: a named way, or a curve of weights for equal slices of the local day."""

    names: tuple[str, ...] = ("even", "profile", "asap")

    @override
    def read(self, value: Any) -> str | tuple[Decimal, ...]:
        expected = f"{', '.join(self.names)}, or a curve: an array of 1 to {LONGEST_CURVE} weights >= 0, not all 0"
        if isinstance(value, str) and value in self.names:
            return value
        if not isinstance(value, list | tuple) or not 0 < len(value) <= LONGEST_CURVE:
            raise ValueError(f"expected {expected}")
        weights = tuple(_part(f"[{i}]", Amount().read, weight) for i, weight in enumerate(value))
        if not any(weights):
            raise ValueError(f"expected {expected}")
        return weights

    @override
    def schema(self) -> dict[str, Any]:
        some = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "[1-9]"}]}
        curve = {"type": "array", "items": Amount().schema(), "minItems": 1, "maxItems": LONGEST_CURVE, "contains": some}
        return {"anyOf": [{"enum": list(self.names)}, curve]}


@dataclass(frozen=True)
class Calendar(FieldType):
    """Days that are not like others: date -> how many ordinary days it weighs. Also taken as an array of {date, factor}."""

    @override
    def read(self, value: Any) -> dict[date, Decimal]:
        expected = 'an object of dates and factors such as {"2026-11-27": 3}, or an array of {"date", "factor"}'
        if isinstance(value, list | tuple):
            if not all(isinstance(entry, Mapping) for entry in value):
                raise ValueError(f"expected {expected}")
            pairs = [(entry.get("date"), entry.get("factor")) for entry in value]
        elif isinstance(value, Mapping):
            pairs = list(value.items())
        else:
            raise ValueError(f"expected {expected}")
        return {_part("date", Day().read, day): _part("factor", Amount().read, factor) for day, factor in pairs}

    @override
    def schema(self) -> dict[str, Any]:
        entry = {"type": "object", "required": ["date", "factor"], "properties": {"date": Day().schema(), "factor": Amount().schema()}}
        by_date = {"type": "object", "propertyNames": {"pattern": Day().schema()["pattern"]}, "additionalProperties": Amount().schema()}
        return {"anyOf": [by_date, {"type": "array", "items": entry}]}


@dataclass(frozen=True)
class Labels(FieldType):
    """Words that people file campaigns under: name -> text, or an array of texts."""

    @override
    def read(self, value: Any) -> dict[str, str] | tuple[str, ...]:
        read = Text(256).read
        if isinstance(value, list | tuple):
            return tuple(_part(f"[{i}]", read, label) for i, label in enumerate(value))
        if isinstance(value, Mapping):
            present = {name: label for name, label in value.items() if label is not None and label != ""}
            return {_part("name", read, name): _part("value", read, label) for name, label in present.items()}
        raise ValueError("expected an object of names and texts, or an array of texts")

    @override
    def schema(self) -> dict[str, Any]:
        text = Text(256).schema()
        # A label that is null or "" is absent, whatever its name is.
        blank = {"enum": ["", None]}
        by_name = {
            "type": "object",
            "properties": {"": blank},
            "additionalProperties": {"type": ["string", "null"], "maxLength": 256},
        }
        return {"anyOf": [by_name, {"type": "array", "items": text}]}


def _part(name: str, read: Callable[[Any], T], value: Any) -> T:
    """`read(value)`, with the part's name in the error."""
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{error} ({name})") from error
