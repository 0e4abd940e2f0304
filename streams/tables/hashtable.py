"""A hash table of 128-bit keys with an integer each, worked on in whole batches by compiled loops.

Python's own dict takes about 200 bytes an entry and a quarter of a microsecond a look-up; this takes 24 bytes a slot and a tenth of that
when asked in batches. It is exact: keys are compared whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.compiled import AHEAD, compiled, prefetch

Keys = NDArray[np.uint64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_LOAD = 0.6
_FEWEST_SLOTS = 64
#: What a slot holds: the key's halves, and its mark: the value, made unsigned in the same order. The mark of the smallest integer, 0, says
#: that the slot is free.
_HI, _LO, _MARK, _WIDTH = 0, 1, 2, 3
_SIGN = np.uint64(1 << 63)


class PairTable:
    """Open addressing with linear probing over keys (hi, lo). Values are above the smallest 64-bit integer."""

    def __init__(self, expected: int = 0) -> None:
        self._slots = _empty(expected)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def slots(self) -> int:
        """Slots held, used or not; 24 bytes each."""
        return len(self._slots) // _WIDTH

    def get(self, hi: Keys, lo: Keys) -> tuple[Bools, Ints]:
        """Which keys are known, and their values (0 where not known)."""
        found, values = np.zeros(len(hi), np.bool_), np.zeros(len(hi), np.int64)
        _get(self._slots, hi, lo, found, values)
        return found, values

    def raise_to(self, hi: Keys, lo: Keys, values: Ints) -> None:
        """Set the values of the keys, where they are new or have a lower one."""
        self._grow(len(hi))
        self._used += _raise_to(self._slots, hi, lo, values)

    def admit(self, hi: Keys, lo: Keys, values: Ints, oldest: Ints, within: int) -> Bools:
        """One key after the other: it is admitted unless its value is at least `oldest` and at most `within` from `values`.

        Those admitted are raised to `values` before the next is looked at. Returns which ones were.
        """
        self._grow(len(hi))
        admitted = np.zeros(len(hi), np.bool_)
        self._used += _admit(self._slots, hi, lo, values, oldest, within, admitted)
        return admitted

    def items(self) -> tuple[Keys, Keys, Ints]:
        """Every key and value, in no order."""
        slots = self._slots.reshape(-1, _WIDTH)
        used = slots[slots[:, _MARK] != 0]
        return used[:, _HI], used[:, _LO], (used[:, _MARK] ^ _SIGN).astype(np.int64)

    def retain(self, at_least: int) -> int:
        """Forget the keys whose value is below `at_least`; returns how many went."""
        kept = int((self._slots[_MARK::_WIDTH] >= np.uint64(at_least % (1 << 64)) ^ _SIGN).sum())
        gone = self._used - kept
        if gone:
            self._move(_empty(int(kept * 1.5)), at_least)
        return gone

    def _grow(self, incoming: int) -> None:
        if self._used + incoming > _LOAD * self.slots:
            self._move(_empty(max(int(2 * _LOAD * self.slots), self._used + incoming)), np.iinfo(np.int64).min)

    def _move(self, slots: Keys, at_least: int) -> None:
        """Into other slots, and leave out what has a lower value."""
        self._used = _refill(self._slots, slots, at_least)
        self._slots = slots


def _empty(expected: int) -> Keys:
    """Slots for so many keys."""
    return np.zeros(_WIDTH * max(_FEWEST_SLOTS, 1 << int(expected / _LOAD).bit_length()), np.uint64)


@compiled
def _first(slots: Keys, hi: Any, lo: Any) -> int:
    """Where a key begins unless others stand there."""
    mixed = (hi ^ (lo >> np.uint64(29)) ^ (lo << np.uint64(7))) * np.uint64(0x9E3779B97F4A7C15)
    return _WIDTH * np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(slots) // _WIDTH - 1))  # type: ignore[return-value]  # compiled


@compiled
def _place_of(slots: Keys, hi: Any, lo: Any) -> int:
    """Where a key begins, or the free slot where it belongs."""
    at = _first(slots, hi, lo)
    while slots[at + _MARK] != 0 and (slots[at + _HI] != hi or slots[at + _LO] != lo):
        at += _WIDTH
        if at == len(slots):
            at = 0
    return at


@compiled
def _fetch(slots: Keys, hi: Keys, lo: Keys, i: int) -> None:
    """Have what stands where the i-th key belongs fetched, if there are so many keys."""
    if i < len(hi):
        at = _first(slots, hi[i], lo[i])
        prefetch(slots, at)
        prefetch(slots, at + _MARK)  # it may be in the next line


@compiled
def _put(slots: Keys, at: int, hi: Any, lo: Any, mark: Any) -> None:
    slots[at + _HI], slots[at + _LO], slots[at + _MARK] = hi, lo, mark


@compiled
def _get(slots: Keys, hi: Keys, lo: Keys, found: Bools, values: Ints) -> None:
    for i in range(len(hi)):
        _fetch(slots, hi, lo, i + AHEAD)
        mark = slots[_place_of(slots, hi[i], lo[i]) + _MARK]
        if mark != 0:
            found[i], values[i] = True, np.int64(mark ^ _SIGN)


@compiled
def _raise_to(slots: Keys, hi: Keys, lo: Keys, values: Ints) -> int:
    """How many keys are new."""
    new = 0
    for i in range(len(hi)):
        _fetch(slots, hi, lo, i + AHEAD)
        at, mark = _place_of(slots, hi[i], lo[i]), np.uint64(values[i]) ^ _SIGN
        if slots[at + _MARK] == 0:
            new += 1
        if mark > slots[at + _MARK]:
            _put(slots, at, hi[i], lo[i], mark)
    return new


@compiled
def _admit(slots: Keys, hi: Keys, lo: Keys, values: Ints, oldest: Ints, within: int, admitted: Bools) -> int:
    """How many keys are new."""
    new = 0
    for i in range(len(hi)):
        _fetch(slots, hi, lo, i + AHEAD)
        at, mark = _place_of(slots, hi[i], lo[i]), np.uint64(values[i]) ^ _SIGN
        if slots[at + _MARK] == 0:
            new += 1
        else:
            held = np.int64(slots[at + _MARK] ^ _SIGN)
            if held >= oldest[i] and abs(values[i] - held) <= within:
                continue
        admitted[i] = True
        _put(slots, at, hi[i], lo[i], max(mark, slots[at + _MARK]))
    return new


@compiled
def _refill(old: Keys, slots: Keys, at_least: int) -> int:
    """Put what has at least that value into the slots, which are free; how many these are."""
    lowest = max(np.uint64(1), np.uint64(at_least) ^ _SIGN)
    used = 0
    for k in range(0, len(old), _WIDTH):
        ahead = k + AHEAD * _WIDTH
        if ahead < len(old) and old[ahead + _MARK] >= lowest:
            prefetch(slots, _first(slots, old[ahead + _HI], old[ahead + _LO]))
        if old[k + _MARK] >= lowest:
            _put(slots, _place_of(slots, old[k + _HI], old[k + _LO]), old[k + _HI], old[k + _LO], old[k + _MARK])
            used += 1
    return used
