"""Where the known fields of JSON records lie: one pass over the bytes, which makes no objects.

Strict where it says yes: a record that is `sure` is one UTF-8 JSON object, and each known field's value is what its form says. Anything
out of the ordinary (a key with escapes, nesting deeper than `_DEEPEST`, a lone surrogate) is not sure, and the arbiter reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled
from streams.events.json_text import MAX_BYTES

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: What a field's value is. ABSENT: no field, null or "". TEXT lies between its quotes as it is meant, ESCAPED text has backslashes in it;
#: OTHER: an array, an object, true, false, or a text with half a surrogate pair.
ABSENT, TEXT, ESCAPED, NUMBER, OTHER = 0, 1, 2, 3, 4

_DEEPEST = 60
#: How a text may be: plain, with escapes, with half a surrogate pair, or with bytes that are not ASCII.
_PLAIN, _HAS_ESCAPES, _HALF_A_PAIR, _NOT_ASCII = 0, 1, 2, 4
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Span:
    """One field of a block of records: where its value begins and ends in what was written, and its form."""

    buffer: Bytes
    start: Ints
    stop: Ints
    form: Bytes


@dataclass(frozen=True, slots=True)
class Spans:
    """Some fields of a block of records, in what was written: `start`, `stop` and `form` have a row per name and a column per record."""

    names: tuple[str, ...]
    buffer: Bytes
    start: Ints
    stop: Ints
    form: Bytes

    def __getitem__(self, name: str) -> Span:
        row = self.names.index(name)
        return Span(self.buffer, self.start[row], self.stop[row], self.form[row])


class Scanner:
    """Finds some fields by name in blocks of records."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        encoded = [name.encode() for name in names]
        self._names = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)])
        # An open hash table: number of the field + 1. Its size is a power of two.
        self._table = np.zeros(4 << len(names).bit_length(), np.int64)
        for number, name in enumerate(encoded):
            at = int(hash_of(np.frombuffer(name, np.uint8), 0, len(name))) & (len(self._table) - 1)
            while self._table[at]:
                at = (at + 1) % len(self._table)
            self._table[at] = number + 1

    def scan(self, buffer: Bytes, starts: Ints, stops: Ints) -> tuple[Spans, Bools]:
        """The fields of the records that lie there, and which records are sure; of the others the spans mean nothing."""
        shape = (len(self.names), len(starts))
        start, stop, form = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.uint8)
        sure = np.zeros(len(starts), np.bool_)
        _scan(buffer, starts, stops, self._names, self._ends, self._table, start, stop, form, sure)
        return Spans(self.names, buffer, start, stop, form), sure


@compiled
def _eight_bytes(buffer: Bytes, i: int) -> Any:
    """A little-endian word; written so that it becomes a single load."""
    low = np.uint64(buffer[i]) | np.uint64(buffer[i + 1]) << np.uint64(8) | np.uint64(buffer[i + 2]) << np.uint64(16)
    middle = np.uint64(buffer[i + 3]) << np.uint64(24) | np.uint64(buffer[i + 4]) << np.uint64(32)
    high = np.uint64(buffer[i + 5]) << np.uint64(40) | np.uint64(buffer[i + 6]) << np.uint64(48) | np.uint64(buffer[i + 7]) << np.uint64(56)
    return low | middle | high


@compiled
def hash_of(buffer: Bytes, start: int, stop: int) -> Any:
    """64 bits of the bytes from `start` to `stop`, well mixed; not for keeping."""
    value = _MULTIPLIER ^ np.uint64(stop - start)
    i = start
    while i + 8 <= stop:
        value = (value ^ _eight_bytes(buffer, i)) * _MULTIPLIER
        value ^= value >> np.uint64(29)
        i += 8
    last = np.uint64(0)
    while i < stop:
        last = (last << np.uint64(8)) | np.uint64(buffer[i])
        i += 1
    value = (value ^ last) * _MULTIPLIER
    value = (value ^ (value >> np.uint64(32))) * _MULTIPLIER
    return value ^ (value >> np.uint64(29))


@compiled
def same_bytes(one: Bytes, at: int, other: Bytes, other_at: int, length: int) -> bool:
    """Whether `length` bytes are the same in two buffers."""
    k = 0
    while k + 8 <= length:
        if _eight_bytes(one, at + k) != _eight_bytes(other, other_at + k):
            return False
        k += 8
    while k < length:
        if one[at + k] != other[other_at + k]:
            return False
        k += 1
    return True


@compiled
def _after_space(buffer: Bytes, i: int, end: int) -> int:
    while i < end and (buffer[i] == 0x20 or buffer[i] == 0x0A or buffer[i] == 0x0D or buffer[i] == 0x09):
        i += 1
    return i


@compiled
def _after_digits(buffer: Bytes, i: int, end: int) -> int:
    while i < end and 0x30 <= buffer[i] <= 0x39:
        i += 1
    return i


@compiled
def _code_unit(buffer: Bytes, i: int, end: int) -> int:
    """The four hexadecimal digits at `i`; -1 where they are not that."""
    if i + 4 > end:
        return -1
    value: Any = 0
    for k in range(i, i + 4):
        c = np.int64(buffer[k])
        if 0x30 <= c <= 0x39:
            value = value * 16 + c - 0x30
        elif 0x41 <= c <= 0x46:
            value = value * 16 + c - 0x37
        elif 0x61 <= c <= 0x66:
            value = value * 16 + c - 0x57
        else:
            return -1
    return int(value)


@compiled
def _plain_bytes(word: Any) -> int:
    """How many of eight bytes come before the first quote, backslash, control character or byte that is not ASCII.

    A byte is zero where taking 1 from it borrows: x - 1 has the highest bit that x has not. A borrow may go on upwards, so that the lowest
    bit that is found is right, and those above it need not be.
    """
    ones, highest = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    quotes, slashes = word ^ (ones * np.uint64(0x22)), word ^ (ones * np.uint64(0x5C))
    found = ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes) | ((word - ones * np.uint64(0x20)) & ~word) | word
    found &= highest
    if found == 0:
        return 8
    # The bits below the lowest one found: one in each byte before it, which the multiplication adds up in the highest byte.
    below = (found & (~found + np.uint64(1))) - np.uint64(1)
    return int(((below & ones) * ones) >> np.uint64(56)) - 1


@compiled
def _end_of_text(buffer: Bytes, i: int, end: int) -> tuple[int, int]:
    """From behind the opening quote: where the closing one is, or -1, and what stands between."""
    what = _PLAIN
    while i < end:
        if i + 8 <= end:
            plain = _plain_bytes(_eight_bytes(buffer, i))
            i += plain
            if plain == 8:
                continue
        c = buffer[i]
        if c == 0x22:
            return i, what
        if c < 0x20:
            return -1, what
        if c >= 0x80:
            what |= _NOT_ASCII
        if c != 0x5C:
            i += 1
            continue
        what |= _HAS_ESCAPES
        if i + 1 >= end:
            return -1, what
        c = buffer[i + 1]
        i += 2
        if c == 0x75:  # u
            unit = _code_unit(buffer, i, end)
            if unit < 0:
                return -1, what
            i += 4
            if 0xD800 <= unit < 0xE000:
                paired = unit < 0xDC00 and i + 1 < end and buffer[i] == 0x5C and buffer[i + 1] == 0x75
                if paired and 0xDC00 <= _code_unit(buffer, i + 2, end) < 0xE000:
                    i += 6
                else:
                    what |= _HALF_A_PAIR
        elif not (c == 0x22 or c == 0x5C or c == 0x2F or c == 0x62 or c == 0x66 or c == 0x6E or c == 0x72 or c == 0x74):
            return -1, what
    return -1, what


@compiled
def _after_number(buffer: Bytes, i: int, end: int) -> int:
    """Behind the number that begins at `i`, or -1 where none does."""
    if i < end and buffer[i] == 0x2D:
        i += 1
    whole = i
    i = _after_digits(buffer, i, end)
    if i == whole or (buffer[whole] == 0x30 and i > whole + 1):
        return -1
    if i < end and buffer[i] == 0x2E:
        fraction = i + 1
        i = _after_digits(buffer, fraction, end)
        if i == fraction:
            return -1
    if i < end and (buffer[i] == 0x65 or buffer[i] == 0x45):
        i += 1
        if i < end and (buffer[i] == 0x2B or buffer[i] == 0x2D):
            i += 1
        exponent = i
        i = _after_digits(buffer, exponent, end)
        if i == exponent:
            return -1
    return i


@compiled
def _after_word(buffer: Bytes, i: int, end: int) -> int:
    """Behind true, false or null, or -1."""
    if i + 4 <= end and buffer[i + 1] == 0x72 and buffer[i + 2] == 0x75 and buffer[i + 3] == 0x65 and buffer[i] == 0x74:
        return i + 4
    if i + 4 <= end and buffer[i + 1] == 0x75 and buffer[i + 2] == 0x6C and buffer[i + 3] == 0x6C and buffer[i] == 0x6E:
        return i + 4
    if i + 5 <= end and buffer[i + 1] == 0x61 and buffer[i + 2] == 0x6C and buffer[i + 3] == 0x73 and buffer[i + 4] == 0x65:
        return i + 5 if buffer[i] == 0x66 else -1
    return -1


@compiled
def _after_nested(buffer: Bytes, i: int, end: int) -> tuple[int, int]:
    """Behind the array or object that begins at `i`, or -1; and what its texts hold."""
    depth = 0
    objects = np.uint64(0)  # a bit for each level: whether it is an object
    what = _PLAIN
    key_next = False
    while i < end:
        c = buffer[i]
        if key_next:
            if c != 0x22:
                return -1, what
            i, holds = _end_of_text(buffer, i + 1, end)
            what |= holds
            if i < 0:
                return -1, what
            i = _after_space(buffer, i + 1, end)
            if i >= end or buffer[i] != 0x3A:
                return -1, what
            i = _after_space(buffer, i + 1, end)
            key_next = False
            continue
        closes = False
        if c == 0x7B or c == 0x5B:
            depth += 1
            if depth > _DEEPEST:
                return -1, what
            objects = (objects << np.uint64(1)) | np.uint64(c == 0x7B)
            i = _after_space(buffer, i + 1, end)
            closes = i < end and buffer[i] == (0x7D if c == 0x7B else 0x5D)
            if not closes:
                key_next = c == 0x7B
                continue
        elif c == 0x22:
            i, holds = _end_of_text(buffer, i + 1, end)
            what |= holds
            if i < 0:
                return -1, what
            i += 1
        elif c == 0x2D or 0x30 <= c <= 0x39:
            i = _after_number(buffer, i, end)
        else:
            i = _after_word(buffer, i, end)
        if i < 0:
            return -1, what
        # Behind a value, or at the end of an empty one: close what ends here, then go on to the next.
        while True:
            if not closes:
                i = _after_space(buffer, i, end)
                if i >= end:
                    return -1, what
                closes = buffer[i] == (0x7D if objects & np.uint64(1) else 0x5D)
                if not closes:
                    break
            objects >>= np.uint64(1)
            depth -= 1
            i += 1
            closes = False
            if depth == 0:
                return i, what
        if buffer[i] != 0x2C:
            return -1, what
        key_next = bool(objects & np.uint64(1))
        i = _after_space(buffer, i + 1, end)
    return -1, what


@compiled
def _is_utf8(buffer: Bytes, i: int, end: int) -> bool:
    while i < end:
        c = buffer[i]
        if c < 0x80:
            i += 1
            continue
        # Bytes that follow, and the least and the most that the first of them may be.
        more, least, most = 1, 0x80, 0xBF
        if 0xC2 <= c <= 0xDF:
            pass
        elif 0xE0 <= c <= 0xEF:
            more = 2
            if c == 0xE0:
                least = 0xA0
            elif c == 0xED:
                most = 0x9F
        elif 0xF0 <= c <= 0xF4:
            more = 3
            if c == 0xF0:
                least = 0x90
            elif c == 0xF4:
                most = 0x8F
        else:
            return False
        if i + more >= end or not least <= buffer[i + 1] <= most:
            return False
        for k in range(i + 2, i + more + 1):
            if buffer[k] & 0xC0 != 0x80:
                return False
        i += more + 1
    return True


@compiled
def _field_of(buffer: Bytes, start: int, stop: int, names: Bytes, ends: Ints, table: Ints) -> int:
    """The number of the field that is called so, or -1."""
    at = np.int64(hash_of(buffer, start, stop) & np.uint64(len(table) - 1))
    while table[at]:
        number = table[at] - 1
        begin = ends[number]
        if ends[number + 1] - begin == stop - start and same_bytes(names, begin, buffer, start, stop - start):
            return int(number)
        at = (at + 1) & (len(table) - 1)
    return -1


@compiled
def _scan_record(
    buffer: Bytes,
    begin: int,
    end: int,
    record: int,
    names: Bytes,
    ends: Ints,
    table: Ints,
    follows: Ints,
    start: Ints,
    stop: Ints,
    form: Bytes,
) -> bool:
    i = _after_space(buffer, begin, end)
    if i >= end or end - begin > MAX_BYTES or buffer[i] != 0x7B:
        return False
    i = _after_space(buffer, i + 1, end)
    if i < end and buffer[i] == 0x7D:
        return _after_space(buffer, i + 1, end) == end
    seen = _PLAIN
    before = len(follows) - 1
    while i < end and buffer[i] == 0x22:
        key = i + 1
        # Records of one producer have their fields in one order, mostly.
        field = follows[before]
        length = ends[field + 1] - ends[field]
        if key + length < end and buffer[key + length] == 0x22 and same_bytes(names, ends[field], buffer, key, length):
            i = key + length
            before = field
        else:
            i, what = _end_of_text(buffer, key, end)
            if i < 0 or what & _HAS_ESCAPES:
                return False
            seen |= what
            field = _field_of(buffer, key, i, names, ends, table)
            if field >= 0:
                follows[before] = field
                before = field
        i = _after_space(buffer, i + 1, end)
        if i >= end or buffer[i] != 0x3A:
            return False
        i = _after_space(buffer, i + 1, end)
        if i >= end:
            return False
        c = buffer[i]
        value, kind = i, OTHER
        if c == 0x22:
            value = i + 1
            i, what = _end_of_text(buffer, value, end)
            if i < 0:
                return False
            seen |= what
            kind = ABSENT if i == value else OTHER if what & _HALF_A_PAIR else ESCAPED if what & _HAS_ESCAPES else TEXT
            last = i
            i += 1
        elif c == 0x2D or 0x30 <= c <= 0x39:
            kind = NUMBER
            last = i = _after_number(buffer, i, end)
        elif c == 0x7B or c == 0x5B:
            last, what = _after_nested(buffer, i, end)
            i = last
            seen |= what
        else:
            kind = ABSENT if c == 0x6E else OTHER
            last = i = _after_word(buffer, i, end)
        if i < 0:
            return False
        if field >= 0:
            # Of duplicate keys the last wins.
            start[field, record], stop[field, record], form[field, record] = value, last, kind
        i = _after_space(buffer, i, end)
        if i >= end:
            return False
        if buffer[i] == 0x7D:
            return _after_space(buffer, i + 1, end) == end and (not seen & _NOT_ASCII or _is_utf8(buffer, begin, end))
        if buffer[i] != 0x2C:
            return False
        i = _after_space(buffer, i + 1, end)
    return False


@compiled
def _scan(
    buffer: Bytes, starts: Ints, stops: Ints, names: Bytes, ends: Ints, table: Ints, start: Ints, stop: Ints, form: Bytes, sure: Bools
) -> None:
    # Per field, and last for the beginning: the field that came after it last.
    follows = np.zeros(len(ends), np.int64)
    for record in range(len(starts)):
        sure[record] = _scan_record(buffer, starts[record], stops[record], record, names, ends, table, follows, start, stop, form)
