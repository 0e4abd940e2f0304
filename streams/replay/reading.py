"""Recorded files as batches of rows: CSV, JSON Lines and Parquet, plain, gzip or Zstandard.

A file is read from start to end in blocks of a few megabytes, each parsed by polars; nothing larger is held. A line that cannot be read
is a `Fault` of that line, and the lines around it are read all the same. A row's number is its line in a text file (the header of a
CSV file is line 1) and its position from 1 in a Parquet file, so that it can be found again.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import polars as pl
import xxhash
import zstandard

from streams.errors import UserError
from streams.replay.mapping import FileFormat

#: Column of a batch that holds the rows' numbers. Not a name that a file would use.
ROW = "\x00row"
#: Column of a batch that holds the position of an exploded element in its row, from 0.
ITEM = "\x00item"

#: Bytes of text parsed at a time, and rows of Parquet.
BLOCK_BYTES = 4 * 1_048_576
BLOCK_ROWS = 50_000
#: A quoted CSV value that is not closed within this many bytes is taken for a fault, not for a very long value.
MAX_RECORD_BYTES = 4 * BLOCK_BYTES

_ENDINGS = {
    ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSON_LINES,
    ".ndjson": FileFormat.JSON_LINES,
    ".parquet": FileFormat.PARQUET,
}
_FINGERPRINT_BYTES = 1_048_576
_MIXED = "several kinds of values"


class ReadError(UserError):
    """A file cannot be read at all. The message names it and says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be used, and what is wrong with it."""

    row: int
    what: str


@dataclass(slots=True)
class Batch:
    """Some consecutive rows of a file, with `ROW` first, and the faults among them."""

    frame: pl.DataFrame
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to replay."""

    path: Path
    format: FileFormat
    #: What {file} stands for in event ids: the name's beginning and a digest of the content, the same wherever the file lies.
    tag: str
    #: Digest of size, beginning and end of the content.
    fingerprint: str
    separator: str = ","

    def batches(self, *, block_bytes: int = BLOCK_BYTES, block_rows: int = BLOCK_ROWS) -> Iterator[Batch]:
        """The rows, in order. Raises ReadError when the file as a whole cannot be read."""
        try:
            if self.format is FileFormat.PARQUET:
                yield from _parquet(self.path, block_rows)
                return
            with _open(self.path) as stream:
                if self.format is FileFormat.CSV:
                    yield from _csv(stream, self.separator, block_bytes)
                else:
                    yield from _json_lines(stream, block_bytes)
        except (OSError, EOFError, zstandard.ZstdError, pl.exceptions.PolarsError, ValueError) as error:
            raise ReadError(f"{self.path}: cannot be read as {self.format.value}: {error}") from error


def open_source(path: Path, declared: FileFormat | None = None, separator: str = ",") -> Source:
    """Look at a file: its format (by its name unless declared) and its fingerprint. Raises ReadError."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    found = declared or _ENDINGS.get(Path(name).suffix.lower())
    if found is None:
        raise ReadError(f"{path}: the ending says no format ({', '.join(_ENDINGS)}); name one in the mapping (format: csv)")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = xxhash.xxh3_128(str(size).encode())
            digest.update(stream.read(_FINGERPRINT_BYTES))
            stream.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(stream.read(_FINGERPRINT_BYTES))
    except OSError as error:
        raise ReadError(f"{path}: cannot be read: {error.strerror}") from error
    fingerprint = digest.hexdigest()
    return Source(path, found, f"{name.split('.')[0][:32]}-{fingerprint[:10]}", fingerprint, separator)


def flatten(frame: pl.DataFrame, explode: str | None) -> pl.DataFrame:
    """Give fields of JSON objects columns of their own (`user.id`), and each element of the list `explode` a row of its own.

    A list that is missing or empty makes no row. Raises ValueError when `explode` is no list.
    """
    frame = _unnest(frame)
    if explode is None or explode not in frame.columns:
        return frame
    dtype = frame.schema[explode]
    if dtype == pl.Null:
        return frame.clear().with_columns(pl.lit(None, pl.Int64).alias(ITEM))
    if not isinstance(dtype, (pl.List, pl.Array)):
        raise ValueError(f"explode: column {explode!r} holds {dtype}, not lists")
    frame = frame.filter(pl.col(explode).list.len() > 0)
    frame = frame.with_columns(pl.int_ranges(pl.col(explode).list.len()).cast(pl.List(pl.Int64)).alias(ITEM))
    return _unnest(frame.explode(explode, ITEM))


def _unnest(frame: pl.DataFrame) -> pl.DataFrame:
    while True:
        nested = {name: dtype for name, dtype in frame.schema.items() if isinstance(dtype, pl.Struct)}
        if not nested:
            return frame
        frame = frame.with_columns(
            pl.col(name).struct.field(inner.name).alias(f"{name}.{inner.name}") for name, dtype in nested.items() for inner in dtype.fields
        ).drop(*nested)


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    raw = path.open("rb")
    if path.suffix == ".zst":
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=True))
    return raw


def _parquet(path: Path, block_rows: int) -> Iterator[Batch]:
    if path.suffix in (".gz", ".zst"):
        # Parquet is read from its end, which a compressed stream does not offer.
        with tempfile.NamedTemporaryFile(suffix=".parquet") as plain, _open(path) as stream:
            shutil.copyfileobj(stream, plain)
            plain.flush()
            yield from _parquet(Path(plain.name), block_rows)
        return
    lazy = pl.scan_parquet(path)
    rows = lazy.select(pl.len()).collect().item()
    for start in range(0, max(rows, 1), block_rows):
        frame = lazy.slice(start, block_rows).collect()
        yield Batch(_numbered(frame, range(start + 1, start + 1 + frame.height)))


def _numbered(frame: pl.DataFrame, rows: range | list[int]) -> pl.DataFrame:
    return frame.insert_column(0, pl.Series(ROW, rows, dtype=pl.Int64))


def _blocks(stream: BinaryIO, size: int, ends_record: Callable[[bytes], int]) -> Iterator[bytes]:
    """Whole records of about `size` bytes. `ends_record(data)` is the length of the whole records that `data` begins with."""
    rest = b""
    while True:
        data = stream.read(size)
        rest += data
        if not data:
            if rest:
                yield rest
            return
        cut = ends_record(rest)
        if cut == 0 and len(rest) > MAX_RECORD_BYTES:
            cut = rest.rfind(b"\n") + 1 or len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]


def _whole_lines(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _whole_records(data: bytes) -> int:
    """As `_whole_lines`, but a newline within quotes ends no record."""
    cut = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, cut)
    while cut and quotes % 2:
        before = data.rfind(b"\n", 0, cut - 1) + 1
        quotes -= data.count(b'"', before, cut)
        cut = before
    return cut


def _csv(stream: BinaryIO, separator: str, block_bytes: int) -> Iterator[Batch]:
    columns: list[str] | None = None
    line = 1
    for number, block in enumerate(_blocks(stream, block_bytes, _whole_records)):
        if number == 0:
            block = block.removeprefix(b"\xef\xbb\xbf")
        if columns is None:
            header, block, used = _header(block, separator)
            columns = header
            line += used
        lines = block.count(b"\n")
        yield _csv_block(block, columns, separator, line)
        line += lines


def _header(block: bytes, separator: str) -> tuple[list[str], bytes, int]:
    """Column names, what follows the header, and how many lines it took."""
    reader = csv.reader(io.StringIO(block.decode("utf-8", "replace"), newline=""), delimiter=separator)
    # Some exporters leave the column of row numbers without a name.
    names = [name.strip() or f"column {number}" for number, name in enumerate(next(reader, []), 1)]
    if not names:
        raise ValueError("the first line is empty; it must name the columns")
    twice = sorted(name for name in set(names) if names.count(name) > 1)
    if twice:
        raise ValueError(f"the first line names {', '.join(map(repr, twice))} more than once")
    lines = block.split(b"\n")
    return names, b"\n".join(lines[reader.line_num :]), reader.line_num


def _csv_block(block: bytes, columns: list[str], separator: str, first_line: int) -> Batch:
    if b'"' in block:
        return _quoted_csv_block(block, columns, separator, first_line)
    expected = len(columns) - 1
    delimiter = separator.encode()
    good: list[bytes] = []
    rows: list[int] = []
    faults: list[Fault] = []
    for row, text in enumerate(block.split(b"\n"), first_line):
        if text.count(delimiter) == expected and text.strip():
            good.append(text.removesuffix(b"\r"))
            rows.append(row)
        elif text.strip():
            faults.append(Fault(row, _width(text.count(delimiter) + 1, expected + 1)))
    if not block.isascii():
        good, rows = _only_utf8(good, rows, faults)
    schema = dict.fromkeys(columns, pl.String())
    if not good:
        return Batch(_numbered(pl.DataFrame(schema=schema), []), faults)
    # Behind a line that is skipped: a block that began with x^ would be taken for a compressed file.
    frame = pl.read_csv(
        b"\n".join([b"#", *good]),
        has_header=False,
        skip_rows=1,
        schema=schema,
        separator=separator,
        quote_char=None,
        raise_if_empty=False,
        infer_schema=False,
    )
    if frame.height != len(rows):
        raise ValueError(f"lines {rows[0]} to {rows[-1]}: {len(rows)} lines were read as {frame.height} rows")
    return Batch(_numbered(frame, rows), faults)


def _quoted_csv_block(block: bytes, columns: list[str], separator: str, first_line: int) -> Batch:
    faults: list[Fault] = []
    lines = block.split(b"\n")
    rows: list[int] = []
    records: list[list[str]] = []
    start = 0
    while start < len(lines):
        reader = csv.reader(_texts(lines, start), delimiter=separator, strict=True)
        begun = start
        restart: int | None = None
        while True:
            row = first_line + begun
            try:
                record = next(reader, None)
            except csv.Error as error:
                faults.append(Fault(row, f"not CSV: {error}"))
                restart = begun + 1
                break
            if record is None:
                break
            after = start + reader.line_num
            if record and len(record) != len(columns):
                faults.append(Fault(row, _width(len(record), len(columns))))
                if after > begun + 1:
                    # A quote that was never closed may have swallowed good lines: look at them again, one by one.
                    restart = begun + 1
                    break
            elif record and any("\udc80" <= character <= "\udcff" for value in record for character in value):
                faults.append(Fault(row, "not UTF-8"))
            elif record:
                records.append(record)
                rows.append(row)
            begun = after
        if restart is None:
            break
        start = restart
    frame = pl.DataFrame(records, schema=dict.fromkeys(columns, pl.String()), orient="row")
    return Batch(_numbered(frame, rows), faults)


def _texts(lines: list[bytes], start: int) -> Iterator[str]:
    """The lines from `start` on, one by one, so that starting again after a fault costs no more than going on."""
    for at in range(start, len(lines)):
        # Text that is no UTF-8 is found again, record by record, by its replacement.
        yield lines[at].decode("utf-8", "surrogateescape") + ("\n" if at + 1 < len(lines) else "")


def _width(found: int, expected: int) -> str:
    return f"{found} columns where the header names {expected}"


def _only_utf8(lines: list[bytes], rows: list[int], faults: list[Fault]) -> tuple[list[bytes], list[int]]:
    good: list[bytes] = []
    kept: list[int] = []
    for row, text in zip(rows, lines, strict=True):
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            faults.append(Fault(row, f"not UTF-8: {error.reason} at byte {error.start + 1}"))
        else:
            good.append(text)
            kept.append(row)
    return good, kept


def _json_lines(stream: BinaryIO, block_bytes: int) -> Iterator[Batch]:
    line = 1
    for number, block in enumerate(_blocks(stream, block_bytes, _whole_lines)):
        if number == 0:
            block = block.removeprefix(b"\xef\xbb\xbf")
        yield _json_block(block, line)
        line += block.count(b"\n")


def _json_block(block: bytes, first_line: int) -> Batch:
    rows = []
    lines = []
    for row, text in enumerate(block.split(b"\n"), first_line):
        if text.strip():
            rows.append(row)
            lines.append(text)
    frame = _read_json(lines)
    faults: list[Fault] = []
    if frame is None:
        objects = msgspec.json.Decoder(dict[str, object])
        good, kept = [], []
        for row, text in zip(rows, lines, strict=True):
            try:
                objects.decode(text)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                faults.append(Fault(row, f"not a JSON object: {error}"))
            else:
                good.append(text)
                kept.append(row)
        rows = kept
        frame = _read_json(good)
        if frame is None:
            return _json_as_text(good, kept, faults)
    return Batch(_numbered(frame, rows), faults)


def _json_as_text(lines: list[bytes], rows: list[int], faults: list[Fault]) -> Batch:
    """Lines that are each an object, but whose values are of types that no column can hold: every single value is read as text.

    Where one line has an object or a list and another has something else, the first one says what it is.
    """
    shape: dict[str, str] = {}
    texts: list[bytes] = []
    kept: list[int] = []
    for row, line in zip(rows, lines, strict=True):
        own: dict[str, str] = {}
        text = json.dumps(_values_as_text(json.loads(line, parse_int=str, parse_float=_plain_decimal), "", own))
        odd = next((path for path, kind in own.items() if kind == _MIXED or shape.get(path, kind) != kind), None)
        if odd is None:
            shape |= own
            texts.append(text.encode())
            kept.append(row)
        else:
            before = f"; the rows before it have {shape[odd]} there" if odd in shape else ""
            faults.append(Fault(row, f"{odd.removeprefix('.')}: got {own[odd]}{before}"))
    frame = _read_json(texts)
    if frame is None:
        raise ValueError(f"lines {rows[0]} to {rows[-1]}: their values cannot be put into columns")
    return Batch(_numbered(frame, kept), faults)


def _values_as_text(value: Any, path: str, shape: dict[str, str]) -> Any:
    """`value` with text in place of numbers, true and false. What stands at each path goes into `shape`."""
    if value is None:
        return None
    if isinstance(value, dict):
        content: Any = {name: _values_as_text(part, f"{path}.{name}", shape) for name, part in value.items()}
        kind = "an object"
    elif isinstance(value, list):
        content = [_values_as_text(part, f"{path}[]", shape) for part in value]
        kind = "a list"
    else:
        content, kind = (str(value).lower() if isinstance(value, bool) else value), "a single value"
    # The elements of a list share a path and may disagree.
    shape[path] = kind if shape.get(path, kind) == kind else _MIXED
    return content


def _plain_decimal(text: str) -> str:
    """A JSON number without exponent, as money and counts are written."""
    number = Decimal(text)
    return format(number, "f") if "e" in text.lower() and abs(number.adjusted()) < 30 else text


def _read_json(lines: list[bytes]) -> pl.DataFrame | None:
    """The lines as a frame with one row each; None when polars finds them not to be that."""
    if not lines:
        return pl.DataFrame()
    try:
        frame = pl.read_ndjson(b"\n".join(lines), infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == len(lines) else None
