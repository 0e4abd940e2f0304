"""Every format gives the same rows; a broken line is named and the lines around it are read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.replay.mapping import FileFormat
from streams.replay.reading import ITEM, ROW, Fault, ReadError, Source, flatten, open_source

ROWS = [{"campaign": f"c-{n}", "clicks": n} for n in range(1, 8)]


def plain(data: bytes) -> bytes:
    return data


COMPRESS = zstandard.ZstdCompressor().compress
COMPRESSIONS: list[tuple[str, Callable[[bytes], bytes]]] = [("", plain), (".gz", gzip.compress), (".zst", COMPRESS)]


def encoded(ending: str) -> bytes:
    frame, buffer = pl.DataFrame(ROWS), io.BytesIO()
    if ending == ".csv":
        frame.write_csv(buffer)
    elif ending == ".jsonl":
        frame.write_ndjson(buffer)
    else:
        frame.write_parquet(buffer)
    return buffer.getvalue()


def read(source: Source, **sizes: int) -> tuple[pl.DataFrame, list[Fault]]:
    frames, faults = [], []
    for batch in source.batches(**sizes):
        frames.append(batch.frame)
        faults += batch.faults
    return pl.concat([frame for frame in frames if frame.width > 1] or frames[:1], how="diagonal_relaxed"), faults


def written(tmp_path: Path, name: str, data: bytes) -> Source:
    path = tmp_path / name
    path.write_bytes(data)
    return open_source(path)


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("block", [10, 1_000_000])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str, suffix: str, compress: Callable[[bytes], bytes], block: int) -> None:
    source = written(tmp_path, f"rows{ending}{suffix}", compress(encoded(ending)))
    frame, faults = read(source, block_bytes=block, block_rows=block)
    assert faults == []
    assert frame.select(pl.col("campaign"), pl.col("clicks").cast(pl.Int64)).to_dicts() == ROWS
    first = 2 if ending == ".csv" else 1
    assert frame[ROW].to_list() == list(range(first, first + len(ROWS)))


# What csv writers and readers agree on: no carriage return or NUL inside a value.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=12)
ROW_OF_TEXT = st.tuples(TEXT, TEXT, TEXT)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=12), size=st.integers(1, 60), newline=st.sampled_from(["\n", "\r\n"])
)
def test_csv_is_read_as_the_csv_module_writes_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], size: int, newline: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=newline)
    writer.writerows([("a", "b", "c"), *rows])
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(text.getvalue().encode())
    frame, faults = read(open_source(path), block_bytes=size)
    assert faults == []
    # An empty value and an absent one are the same to an event.
    assert [tuple(v or "" for v in row) for row in frame.drop(ROW).iter_rows()] == rows


@pytest.mark.parametrize("value", ["x^", "x\x01"])
def test_a_block_that_begins_like_a_compressed_file_is_read_as_it_is(tmp_path: Path, value: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(f"a,b\n{value},1\n{value},2\n".encode())
    frame, faults = read(open_source(path))
    assert faults == []
    assert [tuple(row) for row in frame.drop(ROW).iter_rows()] == [(value, "1"), (value, "2")]


def test_a_column_without_a_name_is_no_obstacle(tmp_path: Path) -> None:
    frame, faults = read(written(tmp_path, "x.csv", b",campaign,clicks\n0,c-1,3\n1,c-2,4\n"))
    assert faults == []
    assert frame.rows() == [(2, "0", "c-1", "3"), (3, "1", "c-2", "4")]
    assert frame.columns[1:] == ["column 1", "campaign", "clicks"]


def test_broken_csv_lines_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    data = b'a,b\n1,2\n3\n\n4,5,6\n7,\xff\n8,9\n10,"11"\n12,"open\n13,14\n15,"16\n16"\n'
    frame, faults = read(written(tmp_path, "x.csv", data))
    assert [(f.row, f.what.split(":")[0]) for f in faults][:3] == [
        (3, "1 columns where the header names 2"),
        (5, "3 columns where the header names 2"),
        (6, "not UTF-8"),
    ]
    assert 9 in [f.row for f in faults]
    assert frame.filter(pl.col(ROW).is_in([2, 7, 8]))["a"].to_list() == ["1", "8", "10"]
    assert (10, "13", "14") in frame.rows()


def test_broken_json_lines_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [b'{"a": 1}', b"{", b"", b"[1]", b"null", b'{"a": 2} 3', b'{"a": "\xff"}', b'{"a": 3, "b": {"c": 4}}']
    lines.append(b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}")
    frame, faults = read(written(tmp_path, "x.jsonl", b"\n".join(lines)))
    assert [fault.row for fault in faults] == [2, 4, 5, 6, 7, 9]
    assert all(fault.what.startswith("not a JSON object") for fault in faults)
    assert dict(zip(frame[ROW], frame["a"], strict=True)) == {1: 1, 8: 3}


def test_json_lines_whose_types_cannot_share_a_column_lose_only_the_odd_ones(tmp_path: Path) -> None:
    lines = [{"a": 1, "b": [1]}, {"a": 2, "b": {"c": 1}}, {"a": 3.50, "b": [2]}, {"b": [[1], 2]}, {"a": True, "b": [None]}, {"a": 1e-3}]
    frame, faults = read(written(tmp_path, "x.jsonl", "\n".join(map(json.dumps, lines)).encode()))
    assert faults == [
        Fault(2, "b: got an object; the rows before it have a list there"),
        Fault(4, "b[]: got several kinds of values; the rows before it have a single value there"),
    ]
    assert frame[ROW].to_list() == [1, 3, 5, 6]
    assert frame["a"].to_list() == ["1", "3.5", "true", "0.001"]
    assert frame["b"].to_list() == [["1"], ["2"], [None], None]


def test_numbers_and_flags_in_one_column_are_text(tmp_path: Path) -> None:
    frame, faults = read(written(tmp_path, "x.jsonl", b'{"a": 1, "b": {"c": 7}}\n{"a": false, "b": {"c": true}}\n'))
    assert faults == []
    assert flatten(frame, None).rows() == [(1, "1", "7"), (2, "false", "true")]


def test_many_broken_lines_take_no_longer_than_good_ones(tmp_path: Path) -> None:
    # Each used to be the start of another look at all that follows, so that a large file seemed to hang.
    unquoted = b"a,b\n" + b'1,"5" screen"\n2,"6 inch"\n' * 50_000
    frame, faults = read(written(tmp_path, "x.csv", unquoted))
    assert (frame.height, len(faults)) == (50_000, 50_000)
    shapes = b'{"a": 1, "u": {"id": 1}}\n' * 50_000 + b'{"a": 1, "u": 7}\n' + b'{"a": 1}\n' * 50_000
    frame, faults = read(written(tmp_path, "x.jsonl", shapes))
    assert (frame.height, [fault.row for fault in faults]) == (100_000, [50_001])


def test_lists_become_rows_and_objects_become_columns(tmp_path: Path) -> None:
    lines = [{"s": 7, "user": {"id": "u"}, "e": [{"t": "x"}, {"t": "y"}]}, {"s": 8, "user": None, "e": []}, {"s": 9, "e": [{"t": "z"}]}]
    frame, _ = read(written(tmp_path, "x.jsonl", "\n".join(map(json.dumps, lines)).encode()))
    flat = flatten(frame, "e")
    assert flat.select(ROW, ITEM, "s", "user.id", "e.t").rows() == [(1, 0, 7, "u", "x"), (1, 1, 7, "u", "y"), (3, 0, 9, None, "z")]


def test_exploding_what_is_no_list_is_refused() -> None:
    with pytest.raises(ValueError, match="column 'e' holds Int64, not lists"):
        flatten(pl.DataFrame({ROW: [1], "e": [2]}), "e")


def test_the_tag_follows_the_content_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    here, there = written(tmp_path, "x.csv", b"a\n1\n"), written(tmp_path / "other", "x.csv", b"a\n1\n")
    assert here.tag == there.tag
    assert written(tmp_path / "other", "x.csv", b"a\n2\n").tag != here.tag


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.csv", b"", None),
        ("x.csv", b"a,b,a\n1,2,3\n", "the first line names 'a' more than once"),
        ("x.csv", b"\na,b\n", "the first line is empty; it must name the columns"),
        ("x.csv.gz", b"a,b\n", "cannot be read as csv"),
        ("x.jsonl.zst", b"{}", "cannot be read as jsonl"),
        ("x.parquet", b"no parquet", "cannot be read as parquet"),
        ("x.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-4], "cannot be read as csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, said: str | None) -> None:
    source = written(tmp_path, name, data)
    if said is None:
        assert list(source.batches()) == []
        return
    with pytest.raises(ReadError, match=said) as refused:
        list(source.batches())
    assert str(source.path) in str(refused.value)


def test_an_unknown_ending_needs_a_format(tmp_path: Path) -> None:
    path = tmp_path / "history.txt"
    path.write_bytes(b"a\n1\n")
    with pytest.raises(ReadError, match="the ending says no format"):
        open_source(path)
    assert open_source(path, FileFormat.CSV).format is FileFormat.CSV
    with pytest.raises(ReadError, match=r"absent\.csv: cannot be read"):
        open_source(tmp_path / "absent.csv")
