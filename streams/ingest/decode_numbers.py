"""Money, ratings and integers of a block, exact, from their bytes; what is written otherwise than by digits and a point is unsure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled
from streams.events.money import MAX_AMOUNT, PLACES, Exchange
from streams.events.refusal import Refusal
from streams.ingest.coded import Coded
from streams.ingest.decode_scan import ABSENT, NUMBER, TEXT, Span

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MOST_DIGITS = 18  # of an integer that surely fits into 64 bits


def own_micros(amounts: Span, sure: Bools) -> Ints:
    """Micros of each amount in its own currency, absent ones 0. `sure` loses the records whose amount may be valid or not."""
    result = np.zeros(len(sure), np.int64)
    _decimals(amounts.buffer, amounts.start, amounts.stop, amounts.form, PLACES, MAX_AMOUNT, True, result, sure)
    return result


def hundredths(ratings: Span, most: int, absent: int, sure: Bools) -> Ints:
    """Hundredths of numbers from 0 to `most`. `sure` loses as `own_micros` does."""
    result = np.full(len(sure), absent, np.int64)
    _decimals(ratings.buffer, ratings.start, ratings.stop, ratings.form, 2, most, False, result, sure)
    return result


def integers(numbers: Span, most: int, absent: int, sure: Bools) -> Ints:
    """Integers from 0 to `most`. `sure` loses as `own_micros` does."""
    result = np.full(len(sure), absent, np.int64)
    _integers(numbers.buffer, numbers.start, numbers.stop, numbers.form, most, result, sure)
    return result


def to_reporting(micros: Ints, sure: Bools, currencies: Coded, exchange: Exchange) -> None:
    """Turn `micros` into the reporting currency, in place; `sure` loses the events whose currency is refused."""
    known = exchange.known()
    for code in np.unique(currencies.codes).tolist():
        sent = currencies.values[code]
        currency = sent.upper() if sent is not None and len(sent) == 3 and sent.isascii() and sent.isalpha() else sent
        if currency is None or currency == known[0]:
            continue
        for position in np.flatnonzero(currencies.codes == code).tolist():
            try:
                if currency not in known or not sure[position]:
                    sure[position] = False
                else:
                    micros[position] = exchange.reporting_micros(int(micros[position]), currency)
            except Refusal:
                sure[position] = False


@compiled
def _scaled(buffer: Bytes, start: int, stop: int, places: int, most: int) -> int:
    """The decimal number times 10**places, rounded half-even; -1 where it is not one of digits and a point, from 0 to `most`."""
    whole: Any = 0
    i = start
    while i < stop and 0x30 <= buffer[i] <= 0x39:
        whole = whole * 10 + np.int64(buffer[i]) - 0x30
        if whole > most:
            return -1
        i += 1
    if i == start:
        return -1
    rest = 0  # twice what was cut off, against one step: 0 nothing, 1 less than half, 2 half, 3 more
    kept: Any = 0
    if i < stop:
        if buffer[i] != 0x2E or i + 1 == stop:
            return -1
        point = i
        for k in range(point + 1, stop):
            if not 0x30 <= buffer[k] <= 0x39:
                return -1
            digit = np.int64(buffer[k]) - 0x30
            if k - point <= places:
                kept = kept * 10 + digit
            elif k - point == places + 1:
                rest = 0 if digit == 0 else 1 if digit < 5 else 2 if digit == 5 else 3
            elif digit and rest % 2 == 0:
                rest += 1
        i = stop - point - 1
        while i < places:
            kept *= 10
            i += 1
    else:
        point = 0
    result = whole
    for _ in range(places):
        result *= 10
    if whole == most and (kept or rest):
        return -1
    result += kept
    if rest == 3 or (rest == 2 and result % 2):
        result += 1
    return int(result)


@compiled
def _decimals(
    buffer: Bytes, start: Ints, stop: Ints, form: Bytes, places: int, most: int, as_text: bool, result: Ints, sure: Bools
) -> None:
    for i in range(len(result)):
        if not sure[i] or form[i] == ABSENT:
            continue
        value = -1
        if form[i] == NUMBER or (as_text and form[i] == TEXT):
            value = _scaled(buffer, start[i], stop[i], places, most)
        if value < 0:
            sure[i] = False
        else:
            result[i] = value


@compiled
def _integers(buffer: Bytes, start: Ints, stop: Ints, form: Bytes, most: int, result: Ints, sure: Bools) -> None:
    for i in range(len(result)):
        if not sure[i] or form[i] == ABSENT:
            continue
        value = -1
        if form[i] == NUMBER and stop[i] - start[i] <= _MOST_DIGITS:
            value = _scaled(buffer, start[i], stop[i], 0, most)
            for k in range(start[i], stop[i]):
                if buffer[k] == 0x2E:
                    value = -1
        if value < 0:
            sure[i] = False
        else:
            result[i] = value
