"""Clicks to measure with: fifteen fields and about 440 bytes each, the same bytes for the same arguments."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

_CHANNELS = ("search", "social", "display", "video", "email", "affiliate")
_PLATFORMS = ("google", "meta", "tiktok", "bing", "direct")
_REGIONS = ("DE", "FR", "US", "GB", "ES", "IT", "PL", "NL")
_SEGMENTS = ("new", "loyal", "lapsed", "vip")
#: Milliseconds by which events are older than their records at most.
_AGE = 1_500


@dataclass(frozen=True, slots=True)
class Load:
    """What the clicks are like."""

    campaigns: int = 100
    users: int = 100_000
    #: Events a second of event time.
    rate: float = 50_000.0
    seed: int = 1


def clicks(load: Load, count: int, start: int, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of `count` clicks, the first at `start` (epoch ms). Each has an id of its own, numbered from `first`."""
    chance = random.Random(f"{load.seed} {first}")  # nosec B311 # made-up clicks, no secret
    for number in range(first, first + count):
        campaign = chance.randrange(load.campaigns)
        at = start + int((number - first) * 1_000 / load.rate) - chance.randrange(_AGE)
        click = {
            "event_id": f"{chance.getrandbits(64):016x}-{number:012d}",
            "occurred_at": at,
            "campaign_id": f"campaign-{campaign:06d}",
            "account_id": f"account-{campaign // 20:05d}",
            "channel": _CHANNELS[(campaign + chance.randrange(2)) % len(_CHANNELS)],
            "platform": _PLATFORMS[(campaign + chance.randrange(2)) % len(_PLATFORMS)],
            "creative_id": f"creative-{campaign * 4 + chance.randrange(4):07d}",
            "keyword": f"running shoes {chance.randrange(50)}",
            "region": _REGIONS[chance.randrange(len(_REGIONS))],
            "segment": _SEGMENTS[chance.randrange(len(_SEGMENTS))],
            "user_id": f"user-{chance.randrange(load.users):09d}",
            "experiment_id": f"experiment-{campaign % 10}",
            "variant_id": "AB"[chance.randrange(2)],
            "landing_page": f"https://shop.example/landing/{chance.randrange(100):03d}?source=campaign",
            "cost": f"{chance.randrange(1, 300) / 100:.2f}",
        }
        yield click["campaign_id"].encode(), json.dumps(click).encode()  # type: ignore[attr-defined]
