"""Strings of a block: numbered by their bytes, so that only what is different about them becomes Python strings; and their lengths."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled
from streams.ingest.coded import Coded, encode
from streams.ingest.decode_fields import TextField
from streams.ingest.decode_scan import ABSENT, ESCAPED, TEXT, Spans, hash_of, same_bytes
from streams.ingest.grouping import numbered, runs
from streams.ingest.texts import Texts

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

_ROWS, _BYTES = 1_024, 16_384
#: A code point that is a pair of surrogates, both escaped.
_MOST_BYTES_A_POINT = 12
#: Texts, and bytes of them, beyond which none are kept for the next batch.
_MOST_TEXTS, _MOST_BYTES = 50_000, 4 << 20
#: Keeps texts of different fields apart.
_APART = np.uint64(0x9E3779B97F4A7C15)
_NONE = np.empty(0, np.int64)


def check_lengths(spans: Spans, fields: Mapping[str, TextField], sure: Bools) -> None:
    """`sure` loses the records where one of the fields is not a text as long as it may be, or absent where it is required."""
    rows = np.array([spans.names.index(name) for name in fields], np.int64)
    longest = np.array([field.longest for field in fields.values()], np.int64)
    required = np.array([field.required for field in fields.values()], np.bool_)
    _check_lengths(spans.buffer, spans.start, spans.stop, spans.form, rows, longest, required, sure)


def text_of(value: bytes) -> str:
    """The text between the quotes of a JSON string."""
    text: str = json.loads(b'"' + value + b'"') if b"\\" in value else value.decode("utf-8")
    return text


class Numberings:
    """Numbers the texts of some fields, each field's in the order in which they come, and says of each whether it is fine.

    0 is no text: null, "", or no field. Each different text is looked at once, and kept from batch to batch: campaigns and their like are
    mostly the same.
    """

    def __init__(self, fields: Mapping[str, TextField]) -> None:
        self._fields = tuple(fields.values())
        self._field_of = {name: number for number, name in enumerate(fields)}
        self._required = np.array([field.required for field in self._fields], np.bool_)
        self._longest = np.array([_MOST_BYTES_A_POINT * field.longest for field in self._fields], np.int64)
        self._forget()

    def _forget(self) -> None:
        #: Per field: its texts by number.
        self._values: list[list[str | None]] = [[None] for _ in self._fields]
        #: Fields of which two numbers may stand for one text: escapes can be written in several ways.
        self._has_escapes: set[int] = set()
        # The texts of all fields as they stand in the records, in the order in which they came. The bytes of the n-th lie between bounds[n]
        # and bounds[n + 1]. An open hash table, its size a power of two, holds n + 1, and 0 where a slot is free.
        self._count = 0
        self._table = np.zeros(4 * _ROWS, np.int64)
        self._hashes = np.zeros(2 * _ROWS, np.uint64)
        self._bounds = np.zeros(2 * _ROWS + 1, np.int64)
        self._bytes = np.empty(_BYTES, np.uint8)
        self._field = np.zeros(2 * _ROWS, np.int64)
        self._number = np.zeros(2 * _ROWS, np.int64)
        self._fine = np.ones(2 * _ROWS, np.bool_)

    def end(self) -> None:
        """End a batch. Its numbers mean nothing from here on."""
        if self._count > _MOST_TEXTS or self._bounds[self._count] > _MOST_BYTES:
            self._forget()

    def add(self, spans: Spans, sure: Bools) -> dict[str, Ints]:
        """The numbers of a block's texts, by field. `sure` loses the records with a value that is no text, or not a fine one."""
        rows = np.array([spans.names.index(name) for name in self._field_of], np.int64)
        codes = self._add(spans, rows, np.arange(len(rows)), sure)
        return dict(zip(self._field_of, codes, strict=True))

    def add_texts(self, name: str, texts: Iterable[str | None]) -> Ints:
        """The numbers of texts of a field that are known to be fine."""
        written = Texts.of([None if text is None else json.dumps(text, ensure_ascii=False)[1:-1] for text in texts])
        form = np.full(len(written), ABSENT, np.uint8)
        form[written.present()] = ESCAPED
        spans = Spans((name,), np.frombuffer(written.buffer, np.uint8), written.start[None], written.stop[None], form[None])
        codes: Ints = self._add(spans, np.zeros(1, np.int64), np.array([self._field_of[name]]), np.ones(len(written), np.bool_))[0]
        return codes

    def _add(self, spans: Spans, rows: Ints, fields: Ints, sure: Bools) -> Ints:
        codes = np.zeros((len(rows), len(sure)), np.int64)
        numbers = np.array([len(values) for values in self._values], np.int64)
        known, at, missing = self._count, 0, 1
        what = (spans.buffer, spans.start, spans.stop, spans.form, rows, fields, self._required, self._longest)
        while missing:
            held = (self._table, self._hashes, self._bounds, self._bytes, self._field, self._number, self._fine)
            at, self._count, missing = _number(*what, *held, at, self._count, numbers, codes, sure)
            if missing:
                self._make_room(missing)
        for entry in self._look_at(known, self._count):
            (row,) = np.flatnonzero(fields == self._field[entry])
            sure &= codes[row] != self._number[entry]
        return codes

    def coded(self, name: str, codes: Ints, as_kept: Callable[[str], str] | None = None) -> Coded:
        """The column of these numbers, its values as they are to be kept; those that are then the same become one.

        There are no more values than numbers, however many are known.
        """
        field = self._field_of[name]
        values = self._values[field]
        if len(values) > len(codes):
            numbers, first = numbered(codes)
            codes, values = numbers, [values[code] for code in codes[first].tolist()]
        if as_kept is not None:
            values = [value if value is None else as_kept(value) for value in values]
        if as_kept is not None or field in self._has_escapes:
            once = encode(values)
            return Coded(once.codes[codes], once.values)
        return Coded(codes, values)

    def value(self, name: str, code: int) -> str | None:
        """The text of a number."""
        return self._values[self._field_of[name]][code]

    def _look_at(self, begin: int, end: int) -> Ints:
        """Make strings of new texts. Returns those that are not fine."""
        if begin == end:
            return _NONE
        bounds = self._bounds[begin : end + 1]
        written = self._bytes[bounds[0] : bounds[-1]].tobytes()
        places = itertools.pairwise((bounds - bounds[0]).tolist())
        texts: list[str]
        if b"\\" in written or not written.isascii():
            parts = [written[start:stop] for start, stop in places]
            texts = [text_of(part) for part in parts]
            escaped = np.array([b"\\" in part for part in parts])
            self._has_escapes.update(np.unique(self._field[begin:end][escaped]).tolist())
        else:
            plain = written.decode("ascii")
            texts = [plain[start:stop] for start, stop in places]
        # Those of one field came one after the other.
        for field, at in runs(self._field[begin:end]):
            its, limits = texts[at], self._fields[field]
            self._values[field] += its
            fine = self._fine[begin:end][at]
            fine[:] = np.fromiter(map(len, its), np.int64, len(its)) <= limits.longest
            if limits.judge is not None:
                fine &= np.fromiter(map(limits.judge, its), np.bool_, len(its))
        return begin + np.flatnonzero(~self._fine[begin:end])

    def _make_room(self, size: int) -> None:
        """For one more text of so many bytes, and for as many as there are."""
        count = self._count
        if count == len(self._hashes):
            room = 2 * count
            self._hashes, self._field = _larger(self._hashes, count, room), _larger(self._field, count, room)
            self._number, self._fine = _larger(self._number, count, room), _larger(self._fine, count, room)
            self._bounds = _larger(self._bounds, count + 1, room + 1)
            self._table = np.zeros(2 * room, np.int64)
            _fill(self._table, self._hashes, count)
        used = int(self._bounds[count])
        if used + size > len(self._bytes):
            self._bytes = _larger(self._bytes, used, 2 * (used + size))


def _larger(array: NDArray[Number], used: int, size: int) -> NDArray[Number]:
    result = np.empty(size, array.dtype)
    result[:used] = array[:used]
    return result


@compiled
def _fill(table: Ints, hashes: NDArray[np.uint64], count: int) -> None:
    for entry in range(count):
        at = np.int64(hashes[entry] & np.uint64(len(table) - 1))
        while table[at]:
            at = (at + 1) & (len(table) - 1)
        table[at] = entry + 1


@compiled
def _number(
    buffer: Bytes,
    start: Ints,
    stop: Ints,
    form: Bytes,
    rows: Ints,
    fields: Ints,
    required: Bools,
    longest: Ints,
    table: Ints,
    hashes: NDArray[np.uint64],
    bounds: Ints,
    kept: Bytes,
    owner: Ints,
    number: Ints,
    fine: Bools,
    at: int,
    count: int,
    numbers: Ints,
    codes: Ints,
    sure: Bools,
) -> tuple[int, int, int]:
    """Number the texts in some rows of the spans, from the `at`-th cell on: row rows[k] is of field fields[k].

    `longest`: bytes that a field's texts may have; `count`: texts held; `numbers`: those given out, per field. Returns how far it went, the
    new `count`, and 0, or the bytes of the text for which there is no room.
    """
    mask = np.int64(len(table) - 1)
    for cell in range(at, len(rows) * len(sure)):
        k, i = cell // len(sure), cell % len(sure)
        row, field = rows[k], fields[k]
        if not sure[i]:
            continue
        if form[row, i] == ABSENT:
            sure[i] = not required[field]
            continue
        if form[row, i] != TEXT and form[row, i] != ESCAPED:
            sure[i] = False
            continue
        begin, end = start[row, i], stop[row, i]
        if end - begin > longest[field]:
            sure[i] = False
            continue
        hashed = hash_of(buffer, begin, end) + np.uint64(field) * _APART
        slot = np.int64(hashed) & mask
        while table[slot]:
            entry = table[slot] - 1
            first = bounds[entry]
            same = hashes[entry] == hashed and owner[entry] == field and bounds[entry + 1] - first == end - begin
            if same and same_bytes(kept, first, buffer, begin, end - begin):
                sure[i] = fine[entry]
                break
            slot = (slot + 1) & mask
        else:
            if count == len(hashes) or bounds[count] + end - begin > len(kept):
                return cell, count, int(end - begin)
            entry = count
            table[slot] = count + 1
            hashes[count], owner[count], number[count], fine[count] = hashed, field, numbers[field], True
            for b in range(end - begin):
                kept[bounds[count] + b] = buffer[begin + b]
            bounds[count + 1] = bounds[count] + end - begin
            numbers[field] += 1
            count += 1
        codes[k, i] = number[entry]
    return len(rows) * len(sure), count, 0


@compiled
def _code_points(buffer: Bytes, i: int, stop: int) -> int:
    """Of a text whose escapes are valid; a surrogate pair is one."""
    points = 0
    while i < stop:
        if buffer[i] == 0x5C:
            # A pair begins with \ud8 to \udb: its first half is not counted.
            is_unit = buffer[i + 1] == 0x75
            lower = buffer[i + 3] | 0x20 if is_unit else 0
            first = is_unit and buffer[i + 2] | 0x20 == 0x64 and (buffer[i + 3] == 0x38 or buffer[i + 3] == 0x39 or 0x61 <= lower <= 0x62)
            points += 0 if first else 1
            i += 6 if is_unit else 2
        else:
            points += 0 if buffer[i] & 0xC0 == 0x80 else 1
            i += 1
    return points


@compiled
def _check_lengths(buffer: Bytes, start: Ints, stop: Ints, form: Bytes, rows: Ints, longest: Ints, required: Bools, sure: Bools) -> None:
    for k in range(len(rows)):
        row = rows[k]
        for i in range(len(sure)):
            if not sure[i]:
                continue
            if form[row, i] == ABSENT:
                sure[i] = not required[k]
            elif form[row, i] != TEXT and form[row, i] != ESCAPED:
                sure[i] = False
            elif stop[row, i] - start[row, i] > longest[k]:
                sure[i] = _code_points(buffer, start[row, i], stop[row, i]) <= longest[k]
