"""Approximate measures: distinct users and quantiles, as entries that merge by being put together.

Distinct counts keep 32-bit hashes of users. A row whose hashes fit below SPARSE_LIMIT is counted exactly; above it only hashes that raise a
register of a HyperLogLog with 2^14 registers are kept (standard error 0.8 %). Flajolet et al. 2007, with the estimator of Ertl 2017
("New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284, algorithm 6).

Quantiles keep counts per logarithmic bucket, so that every value is known within 1 % (Masson et al. 2019, "DDSketch", VLDB 12/12).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPARSE_LIMIT = 4_096
PRECISION = 14
REGISTERS = 1 << PRECISION
_RANK_BITS = 32 - PRECISION

_GAMMA = 1.02
_LOG_GAMMA = math.log(_GAMMA)


def register_and_rank(hashes: NDArray[np.uint32]) -> tuple[Ints, NDArray[np.uint8]]:
    """The HyperLogLog register of each hash (its first 14 bits) and its rank (leading zeros of the rest, plus one)."""
    register = (hashes >> np.uint32(_RANK_BITS)).astype(np.int64)
    rest = (hashes & np.uint32((1 << _RANK_BITS) - 1)).astype(np.float64)
    exponent = np.frexp(rest)[1]  # 0 for 0, else floor(log2) + 1
    return register, (_RANK_BITS - exponent + 1).astype(np.uint8)


def estimate_registers(registers: NDArray[np.uint8]) -> float:
    """How many distinct hashes filled the registers (Ertl 2017, improved raw estimator)."""
    q = _RANK_BITS
    counts = np.bincount(registers, minlength=q + 2)
    m = float(REGISTERS)
    z = m * _tau(1.0 - counts[q + 1] / m)
    for k in range(q, 0, -1):
        z = 0.5 * (z + float(counts[k]))
    z += m * _sigma(counts[0] / m)
    return 0.0 if math.isinf(z) else m * m / (2.0 * math.log(2.0) * z)


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1.0 - x
    while True:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) ** 2 * y
        if z == before:
            return z / 3.0


def distinct(rows: Ints, hashes: NDArray[np.uint32], complete: NDArray[np.bool_]) -> Floats:
    """Distinct hashes per row.

    `rows` and `hashes` are the entries of all sketches that are merged, `complete[row]` says that none of them had passed SPARSE_LIMIT.
    NaN for rows without entries.
    """
    result = np.full(len(complete), np.nan)
    pairs = np.unique((rows.astype(np.uint64) << np.uint64(32)) | hashes.astype(np.uint64))
    row = (pairs >> np.uint64(32)).astype(np.int64)
    counts = np.bincount(row, minlength=len(complete))
    exact = complete & (counts > 0)
    result[exact] = counts[exact]
    starts = np.searchsorted(row, np.arange(len(complete) + 1))
    for dense in np.flatnonzero(~complete & (counts > 0)):
        register, rank = register_and_rank(pairs[starts[dense] : starts[dense + 1]].astype(np.uint32))
        registers = np.zeros(REGISTERS, np.uint8)
        np.maximum.at(registers, register, rank)
        result[dense] = estimate_registers(registers)
    return result


def bucket_of(values: Ints) -> Ints:
    """Bucket of each value >= 0: 0 holds 0, bucket i holds (1.02^(i-2), 1.02^(i-1)]."""
    return np.where(values > 0, np.ceil(np.log(np.maximum(values, 1)) / _LOG_GAMMA - 1e-9).astype(np.int64) + 1, 0)


def value_of(buckets: Ints) -> Floats:
    """The value that stands for each bucket: within 1 % of every value in it."""
    return np.where(buckets > 0, 2.0 * _GAMMA ** (buckets - 1.0) / (_GAMMA + 1.0), 0.0)


def quantiles(rows: Ints, buckets: Ints, counts: Ints, size: int, q: float) -> Floats:
    """The q-quantile per row of the values counted in buckets, interpolated linearly between order statistics. NaN for empty rows."""
    result = np.full(size, np.nan)
    if not len(rows):
        return result
    keys, inverse = np.unique((rows << 16) | buckets, return_inverse=True)
    merged = np.bincount(inverse, weights=counts.astype(np.float64)).astype(np.int64)
    row, value = keys >> 16, value_of(keys & 0xFFFF)
    starts = np.searchsorted(row, np.arange(size + 1))
    for r in np.unique(row):
        cumulative = np.cumsum(merged[starts[r] : starts[r + 1]])
        values = value[starts[r] : starts[r + 1]]
        position = q * (cumulative[-1] - 1)
        below, above = math.floor(position), math.ceil(position)
        low, high = (values[np.searchsorted(cumulative, k, side="right")] for k in (below, above))
        result[r] = low + (high - low) * (position - below)
    return result
