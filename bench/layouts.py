"""Other ways for the rows of a cube to lie in a pane's hash, put in the place of the product's own for as long as they are measured."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from unittest import mock

import msgpack
import numpy as np

from bench.table_filling import MEASURES, Ints
from streams.tables import chunks
from streams.tables.opentables import _OpenCube

#: The largest chunk whose rows a byte can number.
_WIDEST = 256
#: Number of measures -> their names; the topics that are filled differ in it.
_SCHEMA = {len(names): names for names in MEASURES.values()}


@contextlib.contextmanager
def chunks_of(size: int) -> Iterator[None]:
    """Chunks of `size` rows; those too large for the product's format are lists of smaller ones, in one field."""
    pack_all, unpack, unpack_all = chunks.pack_all, chunks.unpack, chunks.unpack_all

    def pack_wide(columns: Mapping[str, Ints], numbers: Sequence[int]) -> list[bytes]:
        result: list[bytes] = []
        for number in numbers:
            own = {name: column[number * size : (number + 1) * size] for name, column in columns.items()}
            width = max(map(len, own.values()), default=0)
            with mock.patch.object(chunks, "CHUNK", _WIDEST):
                parts = pack_all(own, range(-(-width // _WIDEST)))
            result.append(msgpack.packb(parts) if any(parts) else b"")
        return result

    def unpack_wide(chunk: bytes) -> tuple[Ints, dict[str, Ints]]:
        parts = [(i * _WIDEST, *unpack(part)) for i, part in enumerate(msgpack.unpackb(chunk)) if part]
        names = {name for _, _, columns in parts for name in columns}
        rows = np.concatenate([at + rows for at, rows, _ in parts])
        return rows, {n: np.concatenate([c.get(n, np.zeros(len(rows), np.int64)) for _, rows, c in parts]) for n in names}

    def unpack_all_wide(stored: Sequence[bytes], wanted: Collection[str] | None = None) -> tuple[Ints, Ints, dict[str, Ints]]:
        opened = [[(i * _WIDEST, part) for i, part in enumerate(msgpack.unpackb(chunk)) if part] for chunk in stored]
        rows, lengths, columns = unpack_all([part for parts in opened for _, part in parts], wanted)
        before = np.cumsum([0, *lengths])[np.cumsum([0, *map(len, opened)])]
        return rows + np.repeat([at for parts in opened for at, _ in parts], lengths), np.diff(before), columns

    with mock.patch.object(chunks, "CHUNK", size), contextlib.ExitStack() as wide:
        if size > _WIDEST:
            wide.enter_context(mock.patch.object(chunks, "pack_all", pack_wide))
            wide.enter_context(mock.patch.object(chunks, "unpack", unpack_wide))
            wide.enter_context(mock.patch.object(chunks, "unpack_all", unpack_all_wide))
        yield


@contextlib.contextmanager
def field_per_row() -> Iterator[None]:
    """The plain layout: a field per row, its measures as bare 64-bit integers, which a reader decodes all at once."""
    with (
        mock.patch.object(chunks, "CHUNK", 1),
        mock.patch.object(_OpenCube, "take_dirty", _bare_rows_of),
        mock.patch.object(chunks, "unpack_all", _bare_rows),
    ):
        yield


def _bare_rows_of(cube: _OpenCube) -> dict[int, bytes]:
    return {number: _bare_row(cube, number) for number in cube.changed()}


def _bare_row(cube: _OpenCube, number: int) -> bytes:
    names = _SCHEMA[len(cube.measures)]
    return struct.pack(f"<{len(names)}q", *[cube.measures[name].item(number) for name in names])


def _bare_rows(stored: Sequence[bytes], _: Collection[str] | None = None) -> tuple[Ints, Ints, dict[str, Ints]]:
    if not stored:
        return np.empty(0, np.int64), np.empty(0, np.int64), {}
    matrix = np.frombuffer(b"".join(stored), "<i8").reshape(len(stored), -1)
    rows = np.zeros(len(stored), np.int64)
    return rows, rows + 1, {name: matrix[:, i] for i, name in enumerate(_SCHEMA[matrix.shape[1]])}
