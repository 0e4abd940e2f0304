"""BLAKE2b with a key (RFC 7693) of many short texts at once, 32 bits of each. `hashlib` takes one text a call; a test compares them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

_BLOCK = 128
#: The fractional parts of the square roots of the first eight primes.
_START = np.array(
    [
        *(0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1),
        *(0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179),
    ],
    np.uint64,
)
#: In which order each round takes the words of a block; after the last it begins again.
_ORDER = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.int64,
)
_DIGEST_BYTES = 4


def after_key(key: bytes) -> Words:
    """The state when the key, of at most 64 bytes, was taken in."""
    state = _START.copy()
    state[0] ^= np.uint64(0x01010000 | len(key) << 8 | _DIGEST_BYTES)
    block = np.frombuffer(key.ljust(_BLOCK, b"\0"), np.uint64)
    _compress(state, block, _BLOCK, False)
    return state


def keyed_hashes(buffer: bytes, start: Ints, stop: Ints, state: Words) -> NDArray[np.uint32]:
    """The first 32 bits of each text's digest. The i-th lies from start[i] to stop[i] and is not empty; `state` is `after_key`."""
    result = np.empty(len(start), np.uint32)
    _hashes(np.frombuffer(buffer, np.uint8), start, stop, state, result)
    return result


@compiled
def _turned(word: np.uint64, bits: int) -> np.uint64:
    return np.uint64((word >> np.uint64(bits)) | (word << np.uint64(64 - bits)))


@compiled
def _mixed(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, x: np.uint64, y: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    a = a + b + x
    d = _turned(d ^ a, 32)
    c = c + d
    b = _turned(b ^ c, 24)
    a = a + b + y
    d = _turned(d ^ a, 16)
    c = c + d
    b = _turned(b ^ c, 63)
    return a, b, c, d


@compiled
def _compress(state: Words, block: Words, taken: int, last: bool) -> None:
    """Take a block of 16 words into the state; `taken`: bytes up to its end."""
    v0, v1, v2, v3, v4, v5, v6, v7 = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
    v8, v9, v10, v11 = _START[0], _START[1], _START[2], _START[3]
    v12, v13, v14, v15 = _START[4] ^ np.uint64(taken), _START[5], _START[6], _START[7]
    if last:
        v14 = ~v14
    for turn in range(12):
        o = _ORDER[turn % len(_ORDER)]
        v0, v4, v8, v12 = _mixed(v0, v4, v8, v12, block[o[0]], block[o[1]])
        v1, v5, v9, v13 = _mixed(v1, v5, v9, v13, block[o[2]], block[o[3]])
        v2, v6, v10, v14 = _mixed(v2, v6, v10, v14, block[o[4]], block[o[5]])
        v3, v7, v11, v15 = _mixed(v3, v7, v11, v15, block[o[6]], block[o[7]])
        v0, v5, v10, v15 = _mixed(v0, v5, v10, v15, block[o[8]], block[o[9]])
        v1, v6, v11, v12 = _mixed(v1, v6, v11, v12, block[o[10]], block[o[11]])
        v2, v7, v8, v13 = _mixed(v2, v7, v8, v13, block[o[12]], block[o[13]])
        v3, v4, v9, v14 = _mixed(v3, v4, v9, v14, block[o[14]], block[o[15]])
    state[0] ^= v0 ^ v8
    state[1] ^= v1 ^ v9
    state[2] ^= v2 ^ v10
    state[3] ^= v3 ^ v11
    state[4] ^= v4 ^ v12
    state[5] ^= v5 ^ v13
    state[6] ^= v6 ^ v14
    state[7] ^= v7 ^ v15


@compiled
def _hashes(buffer: NDArray[np.uint8], begin: Ints, end: Ints, start: Words, result: NDArray[np.uint32]) -> None:
    state = np.empty(8, np.uint64)
    block = np.empty(16, np.uint64)
    for i in range(len(result)):
        state[:] = start
        taken, at = _BLOCK, begin[i]
        while at < end[i]:
            size = min(_BLOCK, end[i] - at)
            block[:] = 0
            for k in range(size):
                block[k >> 3] |= np.uint64(buffer[at + k]) << np.uint64(8 * (k & 7))
            at += size
            taken += size
            _compress(state, block, taken, at == end[i])
        result[i] = state[0] & np.uint64(0xFFFFFFFF)
