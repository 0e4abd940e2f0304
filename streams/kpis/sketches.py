"""Approximate measures: distinct users and quantiles, as entries that merge by being put together.

Distinct counts keep 32-bit hashes of users. A row whose hashes fit below SPARSE_LIMIT is counted exactly; above it only hashes that raise a
register of a HyperLogLog with 2^14 registers are kept (standard error 0.8 %). Flajolet et al. 2007, with the estimator of Ertl 2017
("New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284, algorithm 6).

Quantiles keep counts per logarithmic bucket, so that every value is known within 1 % (Masson et al. 2019, "DDSketch", VLDB 12/12).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
#: Of one row: REGISTERS of them.
Registers = NDArray[np.uint8]

SPARSE_LIMIT = 4_096
PRECISION = 14
REGISTERS = 1 << PRECISION
RANK_BITS = 32 - PRECISION

_GAMMA = 1.02
_LOG_GAMMA = math.log(_GAMMA)


def register_and_rank(hashes: NDArray[np.uint32]) -> tuple[Ints, NDArray[np.uint8]]:
    """The HyperLogLog register of each hash (its first 14 bits) and its rank (leading zeros of the rest, plus one)."""
    register = (hashes >> np.uint32(RANK_BITS)).astype(np.int64)
    rest = (hashes & np.uint32((1 << RANK_BITS) - 1)).astype(np.float64)
    exponent = np.frexp(rest)[1]  # 0 for 0, else floor(log2) + 1
    return register, (RANK_BITS - exponent + 1).astype(np.uint8)


def estimate_registers(registers: Registers) -> float:
    """How many distinct hashes filled the registers (Ertl 2017, improved raw estimator)."""
    q = RANK_BITS
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


def raise_registers(registers: Registers, hashes: NDArray[np.uint32]) -> None:
    """Bring one row's registers up to what these hashes show."""
    register, rank = register_and_rank(hashes)
    np.maximum.at(registers, register, rank)


def distinct(rows: Ints, hashes: NDArray[np.uint32], size: int, dense: Mapping[int, Registers]) -> Floats:
    """Distinct hashes per row, of `size` rows.

    `rows` and `hashes` are entries of all sketches that are merged. A row is counted exactly unless one of its sketches had passed
    SPARSE_LIMIT: then it is in `dense`, with registers that are raised here by what entries it has. NaN for rows with nothing.
    """
    result = np.full(size, np.nan)
    is_dense = np.zeros(size, np.bool_)
    is_dense[list(dense)] = True
    exactly = ~is_dense[rows]
    # Not numpy's `unique`: it hashes first, which takes ten times as long.
    pairs = np.sort((rows[exactly].astype(np.uint64) << np.uint64(32)) | hashes[exactly])
    different = pairs[np.diff(pairs, prepend=~pairs[:1]) != 0]
    counts = np.bincount((different >> np.uint64(32)).astype(np.int64), minlength=size)
    result[counts > 0] = counts[counts > 0]
    rows, hashes = rows[~exactly], hashes[~exactly]
    order = np.argsort(rows, kind="stable")
    for row, registers in dense.items():
        raise_registers(registers, hashes[order[slice(*np.searchsorted(rows, (row, row + 1), sorter=order))]])
        result[row] = estimate_registers(registers)
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
