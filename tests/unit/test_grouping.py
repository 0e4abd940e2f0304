"""Numbers and sums of a batch are those that a dictionary would give."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.grouping import numbered, runs, sum_by

KEYS = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**63 - 1), st.sampled_from((1 << 32, 1 << 62))), max_size=60)
AMOUNTS = st.integers(-(2**60), 2**60)


@given(KEYS)
def test_different_keys_are_numbered_as_they_come(keys: list[int]) -> None:
    numbers, firsts = numbered(np.array(keys, np.int64))
    known: dict[int, int] = {}
    assert numbers.tolist() == [known.setdefault(key, len(known)) for key in keys]
    assert firsts.tolist() == [keys.index(key) for key in known]


@given(st.lists(st.tuples(st.integers(0, 4), AMOUNTS), max_size=7))
def test_sums_are_exact_beyond_what_a_double_holds(amounts: list[tuple[int, int]]) -> None:
    model: defaultdict[int, int] = defaultdict(int)
    for index, amount in amounts:
        model[index] += amount
    sums = sum_by(np.array([i for i, _ in amounts], np.int64), np.array([a for _, a in amounts], np.int64), 5)
    assert sums.tolist() == [model[i] for i in range(5)]


@given(st.lists(st.integers(-2, 2), max_size=9))
def test_runs_are_of_equal_values_and_make_up_the_whole(values: list[int]) -> None:
    found = list(runs(np.array(values, np.int64)))
    assert [value for value, at in found for _ in values[at]] == values
    assert [value for value, _ in found] == [value for value, _ in itertools.groupby(values)]
    assert all(at.stop > at.start for _, at in found)
