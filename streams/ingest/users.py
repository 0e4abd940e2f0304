"""User ids, made unrecognisable before anything is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.ingest.blake2b import after_key, keyed_hashes


def user_hasher(key: str) -> Callable[[Sequence[str]], NDArray[np.uint32]]:
    """A function from user ids to 32-bit keyed hashes (BLAKE2b as a MAC): without the key nobody can tell whose they are."""
    state = after_key(hashlib.blake2b(key.encode(), digest_size=32).digest())

    def hash_users(users: Sequence[str]) -> NDArray[np.uint32]:
        joined = "".join(users).encode("utf-8", "surrogatepass")
        as_bytes: Sequence[str | bytes] = users if joined.isascii() else [user.encode("utf-8", "surrogatepass") for user in users]
        bounds = np.cumsum([0, *map(len, as_bytes)], dtype=np.int64)
        return keyed_hashes(joined, bounds, state)

    return hash_users


def user_digests(key: str, users: Sequence[str]) -> list[bytes]:
    """64-bit keyed digests, for the list of erased users: long enough that no two users are taken for one another."""
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    return [hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8, key=secret).digest() for user in users]
