"""From the text of a query string to typed values: what a page may be asked is declared, and everything else is refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.tables.windows import TableError


class BadQuery(TableError):
    """A question that cannot be answered as it was put. `hint` says what there is, or what to ask instead."""

    def __init__(self, error: str, hint: str | None = None) -> None:
        super().__init__(error if hint is None else f"{error}; {hint}")
        self.error = error
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter: its name, what it means, its JSON Schema, and how its text is read (ValueError with the reason)."""

    name: str
    meaning: str
    schema: Mapping[str, Any]
    read: Callable[[str], Any]
    required: bool = False
    repeated: bool = False
    #: Value when it is not given.
    default: Any = None


def read_parameters(declared: Sequence[Parameter], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Values by name for every declared parameter; repeated ones as tuples. BadQuery names what is wrong and what there is."""
    by_name = {parameter.name: parameter for parameter in declared}
    texts: dict[str, list[str]] = {}
    for name, text in given:
        if name not in by_name:
            there_is = f"there are: {', '.join(by_name)}" if by_name else "this page takes none"
            raise BadQuery(f"unknown parameter {name!r}", there_is)
        texts.setdefault(name, []).append(text)
    values: dict[str, Any] = {}
    for parameter in declared:
        found = texts.get(parameter.name, [])
        if len(found) > 1 and not parameter.repeated:
            raise BadQuery(f"{parameter.name} is given {len(found)} times", "give it once")
        if not found and parameter.required:
            raise BadQuery(f"{parameter.name} is missing", parameter.meaning)
        try:
            read = tuple(parameter.read(text) for text in found)
        except BadQuery:
            raise
        except ValueError as error:
            raise BadQuery(f"{parameter.name}: {error}") from None
        values[parameter.name] = read if parameter.repeated else read[0] if read else parameter.default
    return values


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,15}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """A reader of one of `choices`."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not known; there are: {', '.join(choices)}")
        return text

    return read


@dataclass(frozen=True, slots=True)
class Condition:
    """`name` must have `value`; None matches rows that have none."""

    name: str
    value: str | None


def read_condition(text: str) -> Condition:
    """`channel:search`, split at the first colon; nothing behind it matches rows without a value."""
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise ValueError(f"{text!r} is not a condition; write NAME:VALUE, such as campaign_id:c-1, or NAME: for rows without a value")
    return Condition(name, value or None)


@dataclass(frozen=True, slots=True)
class Sort:
    """Order of rows by a measure, KPI or dimension. Rows without a value come last either way."""

    name: str
    descending: bool


def read_sort(text: str) -> Sort:
    """`clicks` ascending, `-clicks` descending."""
    name = text.removeprefix("-")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name, re.ASCII):
        raise ValueError(f"{text!r} is not a column; write a measure, a KPI or a dimension, with - in front for descending")
    return Sort(name, text.startswith("-"))


def read_names(text: str) -> frozenset[str]:
    """`clicks,spend,ctr`."""
    names = text.split(",")
    if not all(re.fullmatch(r"[a-z][a-z0-9_]*", name, re.ASCII) for name in names):
        raise ValueError(f"{text!r} is not a list of columns; write names with commas between them, such as clicks,spend,ctr")
    return frozenset(names)
