"""What every target may find, and how a payload that finds it is made small."""

from __future__ import annotations

from collections.abc import Callable


class Defect(AssertionError):
    """The program broke its word over one payload; the message says which."""


def sign_of(error: BaseException) -> str:
    """What kind of failure this is: a smaller payload must fail alike."""
    if isinstance(error, Defect):
        return str(error).partition(":")[0]
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__


def shrunk(payload: bytes, fails: Callable[[bytes], bool], most: int = 3_000) -> bytes:
    """A smaller payload for which `fails` still holds: pieces are left out, halves first; then bytes become plainer."""
    piece, tried = max(1, len(payload) // 2), 0
    while tried < most:
        before = len(payload)
        at = 0
        while at < len(payload) and tried < most:
            smaller = payload[:at] + payload[at + piece :]
            tried += 1
            if fails(smaller):
                payload = smaller
            else:
                at += piece
        if piece == 1 and len(payload) == before:
            break
        piece = max(1, piece // 2)
    for at in range(min(len(payload), most)):
        if payload[at : at + 1] not in b'{}[]:,"0a' and fails(plainer := payload[:at] + b"0" + payload[at + 1 :]):
            payload = plainer
    return payload
