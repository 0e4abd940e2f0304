"""The registry of campaigns as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streams.api.query import BadQuery, Condition
from streams.api.selection import ATTRIBUTES, has_attribute
from streams.tables.windows import Registered

#: Campaigns of a page when nothing is said, and the most there may be.
DEFAULT_CAMPAIGNS, MAX_CAMPAIGNS = 1_000, 10_000


def campaigns_content(registry: Mapping[str, Registered], where: Sequence[Condition], limit: int, offset: int) -> dict[str, Any]:
    """The JSON of `/api/campaigns`: campaigns by id, those with the wanted attributes; `total` counts all that match."""
    for condition in where:
        if condition.name not in ("campaign_id", *ATTRIBUTES) and not condition.name.startswith("labels."):
            there_is = f"there are: {', '.join(('campaign_id', *ATTRIBUTES))}, labels.<label>"
            raise BadQuery(f"where: unknown attribute {condition.name!r}", there_is)
    matching = sorted(
        campaign_id
        for campaign_id, campaign in registry.items()
        if all(has_attribute({**campaign, "campaign_id": campaign_id}, c) for c in where)
    )
    page = matching[offset : offset + limit]
    return {"total": len(matching), "campaigns": [{**registry[campaign_id], "campaign_id": campaign_id} for campaign_id in page]}
