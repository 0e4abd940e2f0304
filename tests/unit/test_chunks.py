"""Chunks: what goes in comes out, and zeros cost nothing."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.tables.chunks import CHUNK, pack_all, unpack

Ints = NDArray[np.int64]
SMALLEST, LARGEST = -(2**63), 2**63 - 1
#: Around the limits of every width, and anything else.
VALUES = st.one_of(
    st.just(0),
    st.builds(
        lambda bits, near, sign: max(SMALLEST, min(LARGEST, sign * (2**bits + near))),
        st.sampled_from((0, 7, 15, 31, 62, 63)),
        st.integers(-2, 2),
        st.sampled_from((-1, 1)),
    ),
    st.integers(SMALLEST, LARGEST),
)


def pack_one(columns: dict[str, Ints]) -> bytes:
    (packed,) = pack_all(columns, [0])
    return packed


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(("clicks", "spend", "refunds")), st.lists(VALUES, min_size=1, max_size=400), max_size=3),
    st.sets(st.integers(0, 5), min_size=1),
)
def test_many_chunks_at_once_are_each_by_itself_whatever_the_length_of_a_measure(columns: dict[str, list[int]], wanted: set[int]) -> None:
    arrays = {name: np.array(values, np.int64) for name, values in columns.items()}
    packed = dict(zip(sorted(wanted), pack_all(arrays, sorted(wanted)), strict=True))
    for number, stored in packed.items():
        own = {name: values[number * CHUNK : (number + 1) * CHUNK] for name, values in columns.items()}
        expected = {row: found for row in range(CHUNK) if (found := {name: v[row] for name, v in own.items() if row < len(v) and v[row]})}
        assert (rows_of(stored) if stored else {}) == expected


def rows_of(stored: bytes) -> dict[int, dict[str, int]]:
    """Row number -> measure -> value, zeros left out."""
    rows, columns = unpack(stored)
    values = {name: column.tolist() for name, column in columns.items()}
    return {row: {name: v[i] for name, v in values.items() if v[i]} for i, row in enumerate(rows.tolist())}


@settings(max_examples=150)
@given(
    st.data(), st.integers(1, CHUNK), st.lists(st.sampled_from(("clicks", "spend", "refunds", "engagements_é")), max_size=4, unique=True)
)
def test_what_is_packed_is_unpacked(data: st.DataObject, width: int, names: list[str]) -> None:
    columns = {name: data.draw(st.dictionaries(st.integers(0, width - 1), VALUES, max_size=12)) for name in names}
    arrays = {name: np.zeros(width, np.int64) for name in names}
    for name, cells in columns.items():
        for row, value in cells.items():
            arrays[name][row] = value
    stored = pack_one(arrays)
    expected: dict[int, dict[str, int]] = {}
    for name, cells in columns.items():
        for row, value in cells.items():
            if value:
                expected.setdefault(row, {})[name] = value
    assert (rows_of(stored) if stored else {}) == expected
    assert bool(stored) == bool(expected)


@pytest.mark.parametrize("value", [1, -1, 127, -127, -128, 128, 32_767, -32_768, 32_768, 2**31 - 1, -(2**31), 2**31, LARGEST, SMALLEST])
def test_every_width_holds_its_limits(value: int) -> None:
    assert rows_of(pack_one({"spend": np.array([0, value, 1])})) == {1: {"spend": value}, 2: {"spend": 1}}


@pytest.mark.parametrize(("largest", "width"), [(100, 1), (-100, 1), (30_000, 2), (-30_000, 2), (2_000_000_000, 4), (9 * 10**18, 8)])
def test_a_column_is_as_narrow_as_its_largest_value_allows(largest: int, width: int) -> None:
    """128 rows of one measure: a byte for each row number, `width` for each value, and little else."""
    values = np.full(CHUNK, 1, np.int64)
    values[7] = largest
    assert len(pack_one({"clicks": values})) == pytest.approx(CHUNK * (1 + width) + 16, abs=8)


def test_rows_and_columns_of_zeros_are_left_out() -> None:
    clicks = np.zeros(CHUNK, np.int64)
    clicks[127] = 5
    stored = pack_one({"clicks": clicks, "spend": np.zeros(CHUNK, np.int64)})
    rows, columns = unpack(stored)
    assert rows.tolist() == [127]
    assert {name: column.tolist() for name, column in columns.items()} == {"clicks": [5]}
    assert len(stored) < 20


@pytest.mark.parametrize("measures", [1, 15, 16, 300])
def test_a_chunk_is_what_msgpack_makes_of_it(measures: int) -> None:
    columns = {f"m{i}": np.full(CHUNK, 1 + i * 10**9, np.int64) for i in range(measures)}
    stored = pack_one(columns)
    rows, found = msgpack.unpackb(stored)
    assert rows == bytes(range(CHUNK))
    assert {name: column[:1] for name, column in found.items()} == {f"m{i}": (b"b", b"i", b"i", b"q")[min(i, 3)] for i in range(measures)}
    assert msgpack.packb((rows, found)) == stored


def test_nothing_at_all_is_empty() -> None:
    assert pack_one({}) == b""
    assert pack_one({"clicks": np.zeros(3, np.int64)}) == b""
