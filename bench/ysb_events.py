"""The events of the Yahoo Streaming Benchmark in the contract's words: the same bytes for the same arguments.

The original's ad_id is `creative_id`, event_type is `kind` (view, click or purchase), ad_type is `channel`, event_time `occurred_at`,
ip_address `ip`, page_id is in `landing_page`. As in the original an event does not say which of the 100 campaigns its ad belongs to:
whoever counts per campaign has to join. `campaign_id`, which the contract requires, is the same in all of them, and the records are keyed
by ad.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from uuid import UUID

_CAMPAIGNS, _ADS_EACH, _USERS, _PAGES = 100, 10, 100, 100
_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
_KINDS = ("view", "click", "purchase")
#: Milliseconds by which events are older than their turn at most.
_AGE = 1_500


def _ids(what: str, count: int) -> list[str]:
    chance = random.Random(what)  # nosec B311: the same ids each time
    return [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]


_CAMPAIGN_IDS = _ids("campaigns", _CAMPAIGNS)
#: ad_id -> campaign_id: ten ads for each of a hundred campaigns.
ADS = {ad: _CAMPAIGN_IDS[number // _ADS_EACH] for number, ad in enumerate(_ids("ads", _CAMPAIGNS * _ADS_EACH))}
_AD_IDS, _USER_IDS, _PAGE_IDS = list(ADS), _ids("users", _USERS), _ids("pages", _PAGES)


def events(rate: float, count: int, start: int, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of `count` events, `rate` a second of event time, the first at `start` (epoch ms), numbered from `first`."""
    chance = random.Random(f"ysb {first}")  # nosec B311: the same bytes each time
    for number in range(first, first + count):
        ad = _AD_IDS[chance.randrange(len(_AD_IDS))]
        event = {
            "event_id": f"{chance.getrandbits(64):016x}-{number:012d}",
            "user_id": _USER_IDS[chance.randrange(_USERS)],
            "landing_page": _PAGE_IDS[chance.randrange(_PAGES)],
            "campaign_id": "ysb",
            "creative_id": ad,
            "channel": _TYPES[chance.randrange(len(_TYPES))],
            "kind": _KINDS[chance.randrange(len(_KINDS))],
            "occurred_at": start + int((number - first) * 1_000 / rate) - chance.randrange(_AGE),
            "ip": "1.2.3.4",
        }
        yield ad.encode(), json.dumps(event).encode()
