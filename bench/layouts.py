"""Other ways for the rows of a cube to lie in a pane's hash, put in the place of the product's own for as long as they are measured."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from unittest import mock

import msgpack
import numpy as np

from bench.table_filling import MEASURES, Ints
from streams.tables import chunks
from streams.tables.opentables import _OpenCube
from streams.tables.reader import _Rows, _StoredPane

#: The largest chunk whose rows a byte can number.
_WIDEST = 256
#: Number of measures -> their names; the topics that are filled differ in it.
_SCHEMA = {len(names): names for names in MEASURES.values()}


@contextlib.contextmanager
def chunks_of(size: int) -> Iterator[None]:
    """Chunks of `size` rows; those too large for the product's format are lists of smaller ones, in one field."""
    pack, unpack = chunks.pack, chunks.unpack

    def pack_wide(columns: Mapping[str, Ints]) -> bytes:
        width = max(map(len, columns.values()), default=0)
        parts = [pack({n: c[at : at + _WIDEST] for n, c in columns.items()}) for at in range(0, width, _WIDEST)]
        packed: bytes = msgpack.packb(parts)
        return packed if any(parts) else b""

    def unpack_wide(chunk: bytes) -> tuple[Ints, dict[str, Ints]]:
        parts = [(i * _WIDEST, *unpack(part)) for i, part in enumerate(msgpack.unpackb(chunk)) if part]
        names = {name for _, _, columns in parts for name in columns}
        rows = np.concatenate([at + rows for at, rows, _ in parts])
        return rows, {n: np.concatenate([c.get(n, np.zeros(len(rows), np.int64)) for _, rows, c in parts]) for n in names}

    with mock.patch.object(chunks, "CHUNK", size), contextlib.ExitStack() as wide:
        if size > _WIDEST:
            wide.enter_context(mock.patch.object(chunks, "pack", pack_wide))
            wide.enter_context(mock.patch.object(chunks, "unpack", unpack_wide))
        yield


@contextlib.contextmanager
def field_per_row() -> Iterator[None]:
    """The plain layout: a field per row, its measures as bare 64-bit integers, which a reader decodes all at once."""
    with (
        mock.patch.object(chunks, "CHUNK", 1),
        mock.patch.object(_OpenCube, "chunk", _bare_row),
        mock.patch.object(_StoredPane, "chunks", _bare_rows),
    ):
        yield


def _bare_row(cube: _OpenCube, number: int) -> bytes:
    names = _SCHEMA[len(cube.measures)]
    return struct.pack(f"<{len(names)}q", *[cube.measures[name].item(number) for name in names])


def _bare_rows(stored: _StoredPane, rows: _Rows) -> Iterable[tuple[Ints, dict[str, Ints]]]:
    number = stored.numbers[np.fromiter(stored.fields, np.int64, len(stored.fields))]
    matrix = np.frombuffer(b"".join(stored.fields.values()), "<i8").reshape(len(number), -1)
    wanted = number >= 0
    yield number[wanted], {name: matrix[wanted, i] for i, name in enumerate(_SCHEMA[matrix.shape[1]])}
