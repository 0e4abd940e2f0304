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
WITHIN = 1_000
#: Some values are near each other, and some keys come more than once.
BATCHES = st.lists(st.tuples(st.tuples(HALVES, HALVES), st.one_of(st.integers(-(2**61), 2**61), st.integers(-2_000, 2_000))), max_size=40)


def columns(keys: list[Key]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    pairs = np.array(keys, np.uint64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def as_dict(table: PairTable) -> dict[Key, int]:
    hi, lo, values = table.items()
    found = dict(zip(zip(hi.tolist(), lo.tolist(), strict=True), values.tolist(), strict=True))
    assert len(found) == len(table) == len(values)
    return found


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(("raise", "admit", "retain", "get")), BATCHES), max_size=12))
def test_it_holds_what_a_dict_would_hold(steps: list[tuple[str, list[tuple[Key, int]]]]) -> None:
    table, model = PairTable(), dict[Key, int]()
    for step, batch in steps:
        hi, lo = columns([key for key, _ in batch])
        values = np.array([value for _, value in batch], np.int64)
        bound = int(values[0]) if batch else 0
        if step == "raise":
            table.raise_to(hi, lo, values)
            for key, value in batch:
                model[key] = max(value, model.get(key, value))
        elif step == "admit":
            admitted = table.admit(hi, lo, values, np.full(len(values), bound), WITHIN)
            for (key, value), was in zip(batch, admitted.tolist(), strict=True):
                assert was == (key not in model or model[key] < bound or abs(value - model[key]) > WITHIN)
                if was:
                    model[key] = max(value, model.get(key, value))
        elif step == "retain":
            gone = {key for key, value in model.items() if value < bound}
            assert table.retain(bound) == len(gone)
            model = {key: value for key, value in model.items() if key not in gone}
        found, got = table.get(hi, lo)
        assert found.tolist() == [key in model for key, _ in batch]
        assert got.tolist() == [model.get(key, 0) for key, _ in batch]
        assert as_dict(table) == model


def test_keys_are_compared_whole() -> None:
    table = PairTable()
    hi, lo = columns([(1, 2), (2, 1), (1, 1), (0, 1), (1, 0), (0, 0)])
    table.raise_to(hi, lo, np.arange(6))
    assert len(table) == 6
    assert table.get(hi, lo)[1].tolist() == [0, 1, 2, 3, 4, 5]
    assert not table.get(*columns([(2, 2), (LARGEST, 0)]))[0].any()


def test_many_keys_of_one_slot_all_find_a_place() -> None:
    table = PairTable(64)
    # Keys below 2^7 whose halves cancel each other out are all hashed to 0.
    crowded = list(range(0, 128 * 50, 128))
    hi, lo = columns([((i << 7) % (LARGEST + 1) ^ (i >> 29), i) for i in crowded])
    values_in = np.array(crowded, np.int64)
    table.raise_to(hi, lo, values_in)
    assert len(table) == 50
    found, values = table.get(hi, lo)
    assert found.all()
    assert values.tolist() == crowded
    assert not table.get(*columns([(20_001, 5)]))[0].any()


def test_a_hundred_thousand_keys_survive_growing_and_forgetting() -> None:
    chance = np.random.default_rng(1)
    pairs = chance.integers(0, LARGEST, (100_000, 2), np.uint64, endpoint=True)
    hi, lo, values = pairs[:, 0].copy(), pairs[:, 1].copy(), np.arange(100_000)
    table = PairTable()
    for part in np.array_split(values, 13):
        table.raise_to(hi[part], lo[part], part)
    assert len(table) == 100_000
    assert table.get(hi, lo)[1].tolist() == values.tolist()
    grown = table.slots
    assert table.retain(90_000) == 90_000
    assert len(table) == 10_000
    assert table.slots < grown / 4, "room that is not needed is given back"
    found, got = table.get(hi, lo)
    assert found.tolist() == (values >= 90_000).tolist()
    assert got[found].tolist() == values[90_000:].tolist()
