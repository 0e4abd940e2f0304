"""The hash table does what a dict of 128-bit keys does, only in batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.tables.hashtable import PairTable

Key = tuple[int, int]
LARGEST = 2**64 - 1
#: Mostly few different halves, so that keys share one of them, or meet in a slot.
HALVES = st.one_of(st.integers(0, 7), st.integers(0, LARGEST), st.sampled_from((0, 1 << 29, 1 << 32, 1 << 57, LARGEST)))
BATCHES = st.dictionaries(st.tuples(HALVES, HALVES), st.integers(-(2**62), 2**62), max_size=40)


def columns(keys: list[Key]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    pairs = np.array(keys, np.uint64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def as_dict(table: PairTable) -> dict[Key, int]:
    hi, lo, values = table.items()
    found = dict(zip(zip(hi.tolist(), lo.tolist(), strict=True), values.tolist(), strict=True))
    assert len(found) == len(table) == len(values)
    return found


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(("put", "add", "retain", "get")), BATCHES), max_size=12))
def test_it_holds_what_a_dict_would_hold(steps: list[tuple[str, dict[Key, int]]]) -> None:
    table, model = PairTable(), dict[Key, int]()
    for step, batch in steps:
        hi, lo = columns(list(batch))
        values = np.array(list(batch.values()), np.int64)
        if step == "put":
            assert table.put(hi, lo, values).tolist() == [key not in model for key in batch]
            model |= batch
        elif step == "add":
            small = values >> 8
            table.add(hi, lo, small)
            for key, value in zip(batch, small.tolist(), strict=True):
                model[key] = model.get(key, 0) + value
        elif step == "retain":
            bound = next(iter(batch.values()), 0)
            gone = {key for key, value in model.items() if value < bound}
            assert table.retain(bound) == len(gone)
            model = {key: value for key, value in model.items() if key not in gone}
        found, got = table.get(hi, lo)
        assert found.tolist() == [key in model for key in batch]
        assert got.tolist() == [model.get(key, 0) for key in batch]
        assert as_dict(table) == model


def test_keys_are_compared_whole() -> None:
    table = PairTable()
    hi, lo = columns([(1, 2), (2, 1), (1, 1), (0, 1), (1, 0), (0, 0)])
    assert table.put(hi, lo, np.arange(6)).all()
    assert table.get(hi, lo)[1].tolist() == [0, 1, 2, 3, 4, 5]
    assert not table.get(*columns([(2, 2), (LARGEST, 0)]))[0].any()


def test_many_keys_of_one_slot_all_find_a_place() -> None:
    table = PairTable(64)
    candidates = columns([(i, i * 7) for i in range(20_000)])
    home = table._home(*candidates)
    crowded = np.flatnonzero(home == home[0])[:50]
    hi, lo = candidates[0][crowded], candidates[1][crowded]
    assert len(hi) == 50
    assert table.put(hi, lo, crowded.astype(np.int64)).all()
    found, values = table.get(hi, lo)
    assert found.all()
    assert values.tolist() == crowded.tolist()
    assert not table.get(*columns([(20_001, 5)]))[0].any()


def test_a_hundred_thousand_keys_survive_growing_and_forgetting() -> None:
    chance = np.random.default_rng(1)
    pairs = chance.integers(0, LARGEST, (100_000, 2), np.uint64, endpoint=True)
    hi, lo, values = pairs[:, 0].copy(), pairs[:, 1].copy(), np.arange(100_000)
    table = PairTable()
    for part in np.array_split(values, 13):
        assert table.put(hi[part], lo[part], part).all()
    assert table.get(hi, lo)[1].tolist() == values.tolist()
    grown = table.slots
    assert table.retain(90_000) == 90_000
    assert len(table) == 10_000
    assert table.slots < grown / 4, "room that is not needed is given back"
    found, got = table.get(hi, lo)
    assert found.tolist() == (values >= 90_000).tolist()
    assert got[found].tolist() == values[90_000:].tolist()
