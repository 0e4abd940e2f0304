"""Ledger, registry, incidents, metrics and health over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from streams.api.health import Health
from tests.integration.api.served import Pages


async def test_the_ledger_tells_where_every_record_went(pages: Pages) -> None:
    partitions = (await pages.ok("/api/ledger"))["partitions"]
    assert [(p["topic"], p["partition"], p["in"]) for p in partitions] == [
        ("marketing.campaigns", 0, 3),
        ("marketing.clicks", 0, 3),
        ("marketing.clicks", 1, 2),
        ("marketing.conversions", 0, 2),
        ("marketing.engagements", 0, 52),
    ]
    for p in partitions:
        assert p["in"] == p["applied"] + p["duplicate"] + p["too_late"] + p["quarantined"]
        assert (p["start_offset"], p["applied_offset"], p["record_time"]) == (0, p["in"] - 1, "2026-11-23T12:00:00Z")
    assert partitions[1]["watermark"] == "2026-11-23T11:59:50Z"


async def test_campaigns_are_listed_by_id_and_by_attribute(pages: Pages) -> None:
    content = await pages.ok("/api/campaigns")
    assert [c["campaign_id"] for c in content["campaigns"]] == ["c-1", "c-2", "c-9"]
    content = await pages.ok("/api/campaigns", where="owner:bob", limit=1)
    assert (content["total"], [c["name"] for c in content["campaigns"]]) == (2, ["[red] Summer"])


async def test_incidents_are_listed_newest_first_and_by_state(pages: Pages) -> None:
    async def ids(**parameters: Any) -> list[str]:
        return [i["incident_id"] for i in (await pages.ok("/api/incidents", **parameters))["incidents"]]

    assert await ids() == ["i-2", "i-3", "i-1"]
    assert await ids(state="open") == ["i-2", "i-3"]
    assert await ids(state="resolved") == ["i-1"]
    assert await ids(limit=1, offset=1) == ["i-3"]
    assert "open, resolved, all" in await pages.refused("/api/incidents", state="closed")


async def test_metrics_are_passed_through_with_their_type(pages: Pages) -> None:
    async with pages.client.get(pages.server.url + "/metrics", headers={"Accept": "application/openmetrics-text"}) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.text() == "# application/openmetrics-text\n"


@pytest.mark.parametrize(
    ("health", "healthz", "readyz"),
    [
        (Health(True, True), (200, "ok"), (200, "ok")),
        (Health(True, False), (200, "ok"), (503, "not ready")),
        (Health(False, True), (503, "failing"), (503, "not ready")),
    ],
)
async def test_health_is_a_status_with_details(pages: Pages, health: Health, healthz: tuple[int, str], readyz: tuple[int, str]) -> None:
    pages.health[0] = Health(health.alive, health.ready, {"lag": 7})
    for path, expected in (("/healthz", healthz), ("/readyz", readyz)):
        status, content = await pages.get(path)
        assert (status, content["status"]) == expected
        assert content["details"] == {"lag": 7}


async def test_the_index_names_every_page(pages: Pages) -> None:
    document = await pages.ok("/openapi.json")
    assert (await pages.ok("/"))["pages"].keys() == document["paths"].keys()
