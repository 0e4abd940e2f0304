"""Approximate measures: as near as promised, whatever the panes and partitions that they are merged from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.kpis.sketches import (
    REGISTERS,
    SPARSE_LIMIT,
    bucket_of,
    estimate_registers,
    quantiles,
    register_and_rank,
    value_of,
)
from streams.tables.estimating import Sketches
from streams.tables.sketchlogs import CountLog, ReachLog, split_counts
from streams.tables.sortedlog import SortedLog

Entries = NDArray[np.uint64]
Hashes = NDArray[np.uint32]
#: The largest dwell or load time, ms.
LONGEST = 86_400_000


def users(seed: int, count: int) -> Hashes:
    """Hashes of `count` different users; a few may be equal, as those of real users may."""
    return np.random.default_rng(seed).integers(0, 2**32, count, np.uint32)


def reach_log(row: int, hashes: Hashes, batch: int = 20_000) -> bytes:
    """A row's log as its owner writes it, batch by batch."""
    log, stored = ReachLog(), b""
    for start in range(0, len(hashes), batch):
        log.add((np.uint64(row) << np.uint64(32)) | np.unique(hashes[start : start + batch]).astype(np.uint64))
        stored += log.take()
    return stored


def merged_reach(logs: Iterable[bytes], rows: int) -> NDArray[np.float64]:
    """What a reader makes of several logs: a row is exact where none of them passed the limit."""
    sketches = Sketches()
    for log in logs:
        sketches.add(np.arange(rows), {"reach": SortedLog.of_bytes(log)})
    return sketches.estimates(np.arange(rows))["reach"]


# Distinct users.


@pytest.mark.parametrize("count", [1, 2, 100, 4_000, SPARSE_LIMIT - 1])
def test_reach_is_exact_below_the_limit(count: int) -> None:
    hashes = np.unique(users(count, count + 10))[:count]
    stored = reach_log(0, np.concatenate((hashes, hashes[::-1])), batch=700)
    assert merged_reach([stored], 1).tolist() == [count]
    assert len(stored) == 8 * count, "a user who comes again costs nothing"


def test_reach_is_within_two_percent_for_95_rows_of_100() -> None:
    sizes = np.geomspace(SPARSE_LIMIT, 100_000, 100).astype(int)
    found = merged_reach((reach_log(i, users(i, n)) for i, n in enumerate(sizes.tolist())), len(sizes))
    errors = np.abs(found / sizes - 1)
    assert (errors <= 0.02).sum() >= 95
    assert errors.max() < 0.04
    assert abs((found / sizes - 1).mean()) < 0.004, "neither too high nor too low on the whole"


def test_reach_of_millions_is_within_two_percent() -> None:
    """Where 32-bit hashes of different users meet: the registers do not care."""
    for count in (1_000_000, 20_000_000):
        registers = np.zeros(REGISTERS, np.uint8)
        for part in range(0, count, 1_000_000):
            register, rank = register_and_rank(users(part, 1_000_000))
            np.maximum.at(registers, register, rank)
        assert estimate_registers(registers) == pytest.approx(count, rel=0.02)


def test_a_large_row_costs_little_more_than_its_registers() -> None:
    assert len(reach_log(0, users(1, 300_000))) < 8 * (SPARSE_LIMIT + 20_000 + 4 * REGISTERS)


def test_rows_do_not_mix() -> None:
    logs = [reach_log(0, users(1, 100)), reach_log(3, users(1, 50)), reach_log(1, users(2, 30_000))]
    found = merged_reach(logs, 5)
    assert found[[0, 3]].tolist() == [100, 50]
    assert found[1] == pytest.approx(30_000, rel=0.02)
    assert np.isnan(found[[2, 4]]).all(), "no users is unknown, not 0"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 9_000)), min_size=1, max_size=5), st.integers(500, 9_000))
def test_merging_panes_is_as_if_there_had_been_one(spans: list[tuple[int, int]], batch: int) -> None:
    """Panes and partitions that share some of their users."""
    everybody = np.unique(users(7, 30_000))
    panes = [everybody[start : start + count] for start, count in spans]
    union = np.unique(np.concatenate(panes))
    logs = [reach_log(0, pane, batch) for pane in panes]
    (found,) = merged_reach(logs, 1)
    if not len(union):
        assert np.isnan(found)
    elif all(len(pane) < SPARSE_LIMIT for pane in panes):
        assert found == len(union)
    else:
        registers = np.zeros(REGISTERS, np.uint8)
        np.maximum.at(registers, *register_and_rank(union))
        assert found == estimate_registers(registers)


@pytest.mark.parametrize(("count", "more"), [(5, 3), (15, 10), (50, 10), (SPARSE_LIMIT - 5, 10), (SPARSE_LIMIT + 5, 100), (40_000, 9_000)])
def test_a_reloaded_reach_log_goes_on_as_the_one_in_memory(count: int, more: int) -> None:
    def entries(row: int, hashes: Hashes) -> Entries:
        return (np.uint64(row) << np.uint64(32)) | np.unique(hashes).astype(np.uint64)

    log = ReachLog()
    stored = b""
    for row, seed in ((0, 1), (5, 2)):
        log.add(entries(row, users(seed, count)))
        stored += log.take()
    again = ReachLog(np.frombuffer(stored, np.uint64))
    assert again.take() == b"", "what is stored is not written again"
    fresh = np.concatenate((entries(0, users(1, count)), entries(0, users(3, more)), entries(6, users(3, more))))
    fresh = np.unique(fresh)
    assert again.add(fresh).tolist() == log.add(fresh).tolist()
    assert again.take() == log.take()
    assert not again.add(fresh).any()


def test_registers_follow_the_definition() -> None:
    hashes = np.array([0, 1, 1 << 17, (1 << 18) - 1, 0b1011 << 18 | 1 << 5], np.uint32)
    register, rank = register_and_rank(hashes)
    assert register.tolist() == [0, 0, 0, 0, 0b1011]
    assert rank.tolist() == [19, 18, 1, 1, 13]
    assert estimate_registers(np.zeros(REGISTERS, np.uint8)) == 0


# Quantiles.


@given(st.lists(st.integers(0, LONGEST), min_size=1, max_size=50))
def test_a_bucket_stands_for_its_values_within_one_percent(values: list[int]) -> None:
    array = np.array(values)
    buckets = bucket_of(array)
    assert (np.abs(value_of(buckets) - array) <= 0.01 * array).all()
    assert buckets.max() < 2**16
    order = np.argsort(array, kind="stable")
    assert (np.diff(buckets[order]) >= 0).all()


def test_nothing_is_a_value_of_its_own() -> None:
    assert bucket_of(np.array([0, 1])).tolist() == [0, 1]
    assert value_of(np.array([0])).tolist() == [0.0]


@settings(max_examples=80)
@given(
    st.lists(st.lists(st.one_of(st.just(0), st.integers(0, 60_000), st.integers(0, LONGEST)), max_size=30), min_size=1, max_size=4),
    st.sampled_from((0.0, 0.5, 0.75, 0.9, 1.0)),
)
def test_a_quantile_is_that_of_the_values_within_one_percent(rows: list[list[int]], q: float) -> None:
    pairs = [(row, int(bucket)) for row, values in enumerate(rows) for bucket in bucket_of(np.array(values, np.int64))]
    row, bucket = (np.array(column, np.int64) for column in (zip(*pairs, strict=True) if pairs else ([], [])))
    found = quantiles(row, bucket, np.ones(len(pairs), np.int64), len(rows), q)
    for values, value in zip(rows, found.tolist(), strict=True):
        if not values:
            assert np.isnan(value)
        else:
            true = float(np.quantile(values, q))
            assert value == pytest.approx(true, rel=0.0101, abs=1e-9)


def test_quantiles_of_many_values_are_within_two_percent() -> None:
    chance = np.random.default_rng(3)
    rows = [np.minimum(chance.lognormal(mean, 1.2, 5_000), LONGEST).astype(np.int64) for mean in np.linspace(0, 12, 40)]
    entries = [(i, bucket_of(values)) for i, values in enumerate(rows)]
    row = np.concatenate([np.full(len(b), i) for i, b in entries])
    bucket = np.concatenate([b for _, b in entries])
    for q in (0.5, 0.75, 0.9):
        true = np.array([np.quantile(values, q) for values in rows])
        found = quantiles(row, bucket, np.ones(len(row), np.int64), len(rows), q)
        assert (np.abs(found - true) <= 0.02 * true).all()


# Count logs.


def keys_of(cells: Sequence[tuple[int, int]]) -> Entries:
    return np.array([row << 16 | bucket for row, bucket in cells], np.uint64)


def counted(stored: bytes) -> Counter[int]:
    keys, counts = split_counts(np.frombuffer(stored, np.uint64))
    result: Counter[int] = Counter()
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        result[key] += count
    return result


CELLS = st.dictionaries(
    st.tuples(st.sampled_from((0, 1, 2**32 - 1)), st.integers(0, 922)),
    st.one_of(st.integers(1, 5), st.sampled_from((65_534, 65_535, 65_536, 200_000))),
    max_size=12,
)


@settings(max_examples=80)
@given(st.lists(st.tuples(CELLS, st.booleans()), max_size=15))
def test_a_count_log_holds_every_value_once(steps: list[tuple[dict[tuple[int, int], int], bool]]) -> None:
    log, stored, model = CountLog(), b"", Counter[int]()
    for cells, restarts in steps:
        keys = keys_of(sorted(cells))
        counts = np.array([cells[cell] for cell in sorted(cells)], np.int64)
        log.add(keys, counts)
        model.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))
        written, replaces = log.take()
        stored = written if replaces else stored + written
        assert counted(stored) == model
        if restarts:
            log = CountLog(np.frombuffer(stored, np.uint64))
            assert log.take() == (b"", False), "what is stored is not written again"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_count_log_does_not_grow_with_time(restarts: bool) -> None:
    log, stored, longest, rewritten = CountLog(), b"", 0, 0
    keys = keys_of([(0, bucket) for bucket in range(100)])
    for _ in range(200):
        log.add(keys, np.full(100, 3))
        written, replaces = log.take()
        stored = written if replaces else stored + written
        rewritten += replaces
        longest = max(longest, len(stored) // 8)
        if restarts:
            log = CountLog(np.frombuffer(stored, np.uint64))
    assert counted(stored) == dict.fromkeys(keys.tolist(), 600)
    assert longest <= 2 * 100 + 64
    assert 0 < rewritten <= 120, "and is not written anew every time"


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=30), max_size=6), st.sets(st.integers(0, 3)))
def test_a_log_that_grows_is_the_log_read_at_once(pieces: list[list[tuple[int, int]]], asked: set[int]) -> None:
    stored = [np.array([(row << 32) | user for row, user in piece], np.uint64).tobytes() for piece in pieces]
    grown, codes = SortedLog.of_bytes(b""), np.arange(4)
    for piece in stored:
        for row in asked:
            grown.registers(row)
        grown = grown.with_more(piece)
    whole = SortedLog.of_bytes(b"".join(stored))
    assert grown.length == whole.length == len(b"".join(stored))
    assert grown.counts(codes).tolist() == whole.counts(codes).tolist() == [sum(r == row for p in pieces for r, _ in p) for row in range(4)]
    for row in range(4):
        assert sorted(grown.of_row(row).tolist()) == sorted(whole.of_rows(np.array([row])).tolist())
        assert grown.registers(row).tolist() == whole.registers(row).tolist()
