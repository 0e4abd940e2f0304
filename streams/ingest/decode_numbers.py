"""Whole columns of money, ratings and integers, exact wherever they say they are sure.

A float stands for a number of at most a few decimals: where the nearest step is so near that no text with that float could round to
another, it is taken; everything else is left to the number's text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.events.money import MICRO, Exchange, micros_of_string
from streams.events.refusal import Refusal
from streams.ingest.columns import ABSENT

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Floats up to here, times a million, are off by less than 0.001 of a micro.
_MOST_BY_FLOAT = 1e6
#: A product this near to an integer of micros rounds to it, whatever the text's further digits.
_NEAR = 0.4
#: Decimal strings, one a line, that a float of is near enough to.
_PLAIN_LINES = re.compile(r"(?:[0-9]{1,6}(?:\.[0-9]{1,6})?\n)*+")


def own_micros(amounts: Sequence[float | str | None]) -> tuple[Ints, Bools]:
    """Micros of each amount in its own currency, absent ones 0, and whether each is sure."""
    strings = [i for i, v in enumerate(amounts) if isinstance(v, str)]
    if not strings:
        return _of_floats([0.0 if v is None else v for v in amounts])  # type: ignore[misc]
    micros, sure = _of_floats([v if isinstance(v, float) else 0.0 for v in amounts])
    micros[strings], sure[strings] = _of_strings([amounts[i] for i in strings])  # type: ignore[misc]
    return micros, sure


def _of_floats(floats: Sequence[float]) -> tuple[Ints, Bools]:
    values = np.array(floats, np.float64)
    # A negative zero may be a tiny negative number that underflowed.
    sure = ~np.signbit(values) & (values <= _MOST_BY_FLOAT)
    product = np.where(sure, values, 0.0) * MICRO
    nearest = np.rint(product)
    sure &= np.abs(product - nearest) < _NEAR
    return nearest.astype(np.int64), sure


def _of_strings(texts: Sequence[str]) -> tuple[Ints, Bools]:
    lines = "\n".join(texts) + "\n"
    if lines.count("\n") == len(texts) and _PLAIN_LINES.fullmatch(lines):
        return _of_floats([float(text) for text in texts])
    micros, sure = np.zeros(len(texts), np.int64), np.ones(len(texts), np.bool_)
    for position, text in enumerate(texts):
        if text:
            try:
                micros[position] = micros_of_string(text)
            except ValueError:
                sure[position] = False
    return micros, sure


def to_reporting(micros: Ints, sure: Bools, currencies: Sequence[str | None], exchange: Exchange) -> None:
    """Turn `micros` into the reporting currency, in place; `sure` loses the events whose currency is refused."""
    distinct = set(currencies)
    reporting = exchange.known()[0]
    if distinct <= {None, "", reporting}:
        return
    foreign: dict[str, str | None] = {}  # as sent -> the currency, None where it is refused
    for sent in distinct:
        if not sent or sent == reporting:
            continue
        currency = sent.upper() if len(sent) == 3 and sent.isascii() and sent.isalpha() else None
        if currency == reporting:
            continue
        foreign[sent] = currency if currency in exchange.known() else None
    for position, sent in enumerate(currencies):
        if sent in foreign:
            try:
                currency = foreign[sent]
                if currency is None or not sure[position]:
                    sure[position] = False
                else:
                    micros[position] = exchange.reporting_micros(int(micros[position]), currency)
            except Refusal:
                sure[position] = False


def hundredths(ratings: Sequence[float | None], most: int) -> tuple[Ints, Bools]:
    """Hundredths of numbers from 0 to `most`, ABSENT where None, and whether each is sure."""
    floats = np.array([-1.0 if v is None else v if 0 <= v <= most else most + 1 for v in ratings], np.float64)
    absent = floats == -1.0
    # Just at the upper bound a float may hide a text above it; an integer does not.
    sure = (~np.signbit(floats) & (floats < most)) | absent
    for position in np.flatnonzero(floats == most).tolist():
        sure[position] = isinstance(ratings[position], int)
    product = floats * 100
    sure &= np.abs(product - np.floor(product) - 0.5) > 1e-6
    return np.where(absent | ~sure, ABSENT, np.rint(product)).astype(np.int64), sure


def integers(values: Sequence[int | None], absent: int) -> Ints:
    """A column of integers, `absent` where None."""
    return np.array([absent if v is None else v for v in values], np.int64)
