"""Strings of a block: numbered by their bytes, so that only what is different about them becomes Python strings; and their lengths."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled
from streams.ingest.coded import Coded, encode
from streams.ingest.decode_scan import ABSENT, ESCAPED, TEXT, Span, hash_of, same_bytes

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

_ROWS, _BYTES = 1_024, 16_384


def check_lengths(texts: Span, longest: int, required: bool, sure: Bools) -> None:
    """`sure` loses the records whose value is not a text of at most so many code points, or absent where it is required."""
    _check_lengths(texts.buffer, texts.start, texts.stop, texts.form, longest, required, sure)


def text_of(value: bytes) -> str:
    """The text between the quotes of a JSON string."""
    text: str = json.loads(b'"' + value + b'"') if b"\\" in value else value.decode("utf-8")
    return text


class Numbering:
    """Numbers the texts of a batch in the order in which they come, and says of each whether it is fine, looking at every one only once.

    0 is no text: null, "", or no field.
    """

    def __init__(self, longest: int, required: bool = False, judge: Callable[[str], bool] | None = None) -> None:
        self._longest = longest
        self._required = required
        self._judge = judge
        self._values: list[str | None] = [None]
        self._fine = [True]
        self._all_fine = True
        #: Whether two numbers may stand for one text: escapes can be written in several ways.
        self._has_escapes = False
        # An open hash table, its size a power of two, of the texts as they stand in the records. The bytes of number n lie between
        # bounds[n] and bounds[n + 1].
        self._table = np.zeros(4 * _ROWS, np.int64)
        self._hashes = np.zeros(2 * _ROWS, np.uint64)
        self._bounds = np.zeros(2 * _ROWS + 1, np.int64)
        self._bytes = np.empty(_BYTES, np.uint8)

    def add(self, texts: Span, sure: Bools) -> Ints:
        """The numbers of a block's texts. `sure` loses the records whose value is no text, or not a fine one."""
        self._make_room(len(sure), int((texts.stop - texts.start)[sure].sum()))
        codes = np.zeros(len(sure), np.int64)
        known = len(self._values)
        held = (self._table, self._hashes, self._bounds, self._bytes)
        count = _number(texts.buffer, texts.start, texts.stop, texts.form, *held, known, codes, sure)
        if count > known:
            self._look_at(known, count)
        if self._required:
            sure &= codes > 0
        if not self._all_fine:
            sure &= np.array(self._fine, np.bool_)[codes]
        return codes

    def add_texts(self, texts: Iterable[str | None]) -> Ints:
        """The numbers of texts that are known to be fine."""
        written = [b"" if text is None else json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8") for text in texts]
        ends = np.cumsum([len(each) for each in written], dtype=np.int64)
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
        form = np.where(ends > starts, ESCAPED, ABSENT).astype(np.uint8)
        return self.add(Span(b"".join(written), starts, ends, form), np.ones(len(written), np.bool_))

    def coded(self, codes: Ints, as_kept: Callable[[str], str] | None = None) -> Coded:
        """The column of these numbers, its values as they are to be kept; those that are then the same become one."""
        values = self._values if as_kept is None else [value if value is None else as_kept(value) for value in self._values]
        if as_kept is not None or self._has_escapes:
            once = encode(values)
            codes, values = once.codes[codes], once.values
        if codes.all():
            return Coded(codes - 1, values[1:])
        return Coded(codes, list(values))

    def value(self, code: int) -> str | None:
        """The text of a number."""
        return self._values[code]

    def _look_at(self, begin: int, end: int) -> None:
        bounds = self._bounds[begin : end + 1]
        written = self._bytes[bounds[0] : bounds[-1]].tobytes()
        places = (bounds - bounds[0]).tolist()
        has_escapes = b"\\" in written
        new: Sequence[str]
        if has_escapes or not written.isascii():
            new = [text_of(written[start:stop]) for start, stop in itertools.pairwise(places)]
        else:
            plain = written.decode("ascii")
            new = [plain[start:stop] for start, stop in itertools.pairwise(places)]
        self._has_escapes |= has_escapes
        self._values += new
        if self._judge is None and int(np.diff(bounds).max()) <= self._longest:
            self._fine += [True] * len(new)
        else:
            self._fine += [len(text) <= self._longest and (self._judge is None or self._judge(text)) for text in new]
            self._all_fine = all(self._fine)

    def _make_room(self, texts: int, size: int) -> None:
        """For so many more texts, of so many bytes together: compiled loops write without a look at where an array ends."""
        count = len(self._values)
        if count + texts > len(self._hashes):
            numbers = 2 << (count + texts).bit_length()
            self._hashes, self._bounds = _larger(self._hashes, count, numbers), _larger(self._bounds, count + 1, numbers + 1)
            self._table = np.zeros(2 * numbers, np.int64)
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
    for number in range(1, count):
        at = np.int64(hashes[number] & np.uint64(len(table) - 1))
        while table[at]:
            at = (at + 1) & (len(table) - 1)
        table[at] = number


@compiled
def _number(
    buffer: Bytes,
    start: Ints,
    stop: Ints,
    form: Bytes,
    table: Ints,
    hashes: NDArray[np.uint64],
    bounds: Ints,
    kept: Bytes,
    count: int,
    codes: Ints,
    sure: Bools,
) -> int:
    for i in range(len(codes)):
        if not sure[i] or form[i] == ABSENT:
            continue
        if form[i] != TEXT and form[i] != ESCAPED:
            sure[i] = False
            continue
        length = stop[i] - start[i]
        hashed = hash_of(buffer, start[i], stop[i])
        at = np.int64(hashed & np.uint64(len(table) - 1))
        while table[at]:
            number = table[at]
            begin = bounds[number]
            if hashes[number] == hashed and bounds[number + 1] - begin == length and same_bytes(kept, begin, buffer, start[i], length):
                break
            at = (at + 1) & (len(table) - 1)
        else:
            table[at] = count
            hashes[count] = hashed
            for k in range(length):
                kept[bounds[count] + k] = buffer[start[i] + k]
            bounds[count + 1] = bounds[count] + length
            count += 1
        codes[i] = table[at]
    return count


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
def _check_lengths(buffer: Bytes, start: Ints, stop: Ints, form: Bytes, longest: int, required: bool, sure: Bools) -> None:
    for i in range(len(sure)):
        if not sure[i]:
            continue
        if form[i] == ABSENT:
            sure[i] = not required
        elif form[i] != TEXT and form[i] != ESCAPED:
            sure[i] = False
        elif stop[i] - start[i] > longest:
            sure[i] = _code_points(buffer, start[i], stop[i]) <= longest
