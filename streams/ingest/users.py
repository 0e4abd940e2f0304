"""User ids, made unrecognisable before anything is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.ingest.blake2b import after_key, keyed_hashes
from streams.ingest.texts import Texts


def user_hasher(key: str) -> Callable[[Texts], NDArray[np.uint32]]:
    """A function from user ids, none absent, to 32-bit keyed hashes (BLAKE2b as a MAC): without the key nobody can tell whose they are."""
    state = after_key(hashlib.blake2b(key.encode(), digest_size=32).digest())

    def hash_users(users: Texts) -> NDArray[np.uint32]:
        return keyed_hashes(users.buffer, users.start, users.stop, state)

    return hash_users


def user_digests(key: str, users: Sequence[str]) -> list[bytes]:
    """64-bit keyed digests, for the list of erased users: long enough that no two users are taken for one another."""
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    return [hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8, key=secret).digest() for user in users]
