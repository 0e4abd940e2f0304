"""A sorted table answers as a dictionary would, whatever comes in which order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.tables import sortedkeys
from streams.tables.sortedkeys import SortedKeys

_KEYS = st.one_of(st.integers(0, 40), st.integers(2**63 - 5, 2**64 - 1))
_BATCHES = st.lists(st.dictionaries(_KEYS, st.integers(-1_000, 1_000), max_size=30), max_size=12)


def added(table: SortedKeys, batch: dict[int, int]) -> list[int]:
    """Add a batch; the keys that were new."""
    keys = sorted(batch)
    new = table.add(np.array(keys, np.uint64), np.array([batch[key] for key in keys], np.int64))
    return [key for key, is_new in zip(keys, new.tolist(), strict=True) if is_new]


@settings(max_examples=200)
@given(first=st.dictionaries(_KEYS, st.integers(-1_000, 1_000), max_size=30), batches=_BATCHES)
def test_it_adds_up_and_says_what_is_new(first: dict[int, int], batches: list[dict[int, int]]) -> None:
    keys = sorted(first)
    table = SortedKeys(np.array(keys, np.uint64), np.array([first[key] for key in keys], np.int64))
    model = dict(first)
    for batch in batches:
        assert added(table, batch) == [key for key in sorted(batch) if key not in model]
        for key, value in batch.items():
            model[key] = model.get(key, 0) + value
        assert len(table) == len(model)
    found, values = table.items()
    assert list(zip(found.tolist(), values.tolist(), strict=True)) == sorted(model.items())
    assert table.cells == 2 * len(model)


def test_many_small_additions_are_merged_now_and_then() -> None:
    table = SortedKeys()
    order = np.random.default_rng(1).permutation(60_000)
    for part in np.array_split(order, 40):
        keys = np.sort(part).astype(np.uint64)
        assert table.add(keys, np.ones(len(keys), np.int64)).all()
        assert not table.add(keys, np.ones(len(keys), np.int64)).any()
        assert len(table._new_keys) <= max(sortedkeys._AT_LEAST, len(table._keys) // sortedkeys._SHARE)
    keys, values = table.items()
    assert np.array_equal(keys, np.arange(60_000, dtype=np.uint64))
    assert (values == 2).all()
