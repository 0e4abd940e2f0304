"""`/api/kpis/series` over real tables: what it answers, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.integration.api.served import NOON, Pages


async def test_a_series_adds_up_to_its_window(pages: Pages) -> None:
    content = await pages.ok("/api/kpis/series", cube="campaign", where="campaign_id:c-1", measure="spend", window="2m", step="10s")
    assert [point["time"] for point in content["points"]][:2] == ["2026-11-23T11:58:10Z", "2026-11-23T11:58:20Z"]
    assert len(content["points"]) == 12
    assert sum(point["value"] for point in content["points"]) == Decimal("0.520001")
    assert content["points"][0]["complete"] is True
    assert content["points"][-1]["complete"] is False


async def test_a_series_of_several_rows_is_their_sum(pages: Pages) -> None:
    parameters = {"measure": "clicks", "from_": NOON - 120_000, "to": NOON, "step": "60s"}
    assert [p["value"] for p in (await pages.ok("/api/kpis/series", cube="campaign", **parameters))["points"]] == [1, 4]
    assert [p["value"] for p in (await pages.ok("/api/kpis/series", cube="total", **parameters))["points"]] == [1, 4]
    by_owner = await pages.ok("/api/kpis/series", cube="campaign", where="owner:bob", **parameters)
    assert [p["value"] for p in by_owner["points"]] == [0, 1]


async def test_a_series_of_a_kpi_is_the_kpi_of_the_sums_and_null_where_it_cannot_be_divided(pages: Pages) -> None:
    parameters = {"cube": "campaign", "measure": "cpc", "from_": NOON - 180_000, "to": NOON}
    points = (await pages.ok("/api/kpis/series", **parameters))["points"]
    assert [p["value"] and float(p["value"]) for p in points] == [None, 0.1, pytest.approx(4.420002 / 4, rel=1e-14)]


async def test_a_series_of_rows_that_are_not_there_is_zero(pages: Pages) -> None:
    parameters = {"cube": "campaign", "from_": NOON - 60_000, "to": NOON, "where": "campaign_id:nobody"}
    assert [p["value"] for p in (await pages.ok("/api/kpis/series", measure="clicks", **parameters))["points"]] == [0]
    assert [p["value"] for p in (await pages.ok("/api/kpis/series", measure="aov", **parameters))["points"]] == [None]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"measure": "reach", "window": "5m"}, "reach is approximate"),
        ({"measure": "arpu", "window": "5m"}, "needs reach"),
        ({"measure": "nonsense", "window": "5m"}, "there are: impressions, clicks"),
        ({"window": "5m"}, "measure is missing"),
        ({"measure": "clicks", "window": "5m", "step": "7s"}, "step=10s"),
        ({"measure": "clicks", "window": "5m", "step": "2m"}, "whole number of steps"),
        ({"measure": "clicks", "window": "20h", "step": "10s"}, "multiple of 1m"),
        ({"measure": "clicks", "window": "30d", "step": "15m"}, None),
        ({"measure": "clicks", "from_": NOON - 600_000, "to": NOON + 86_400_000, "step": "10s"}, "at most 5000"),
    ],
)
async def test_a_series_that_cannot_be_given_is_refused(pages: Pages, parameters: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert len((await pages.ok("/api/kpis/series", cube="campaign", **parameters))["points"]) == 2_880
    else:
        assert said in await pages.refused("/api/kpis/series", cube="campaign", **parameters)
