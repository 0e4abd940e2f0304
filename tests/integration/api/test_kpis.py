"""`/api/kpis` over real tables: what it answers, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streams.config import Topic
from tests.integration.api.served import NOON, Pages
from tests.integration.conftest import client_of
from tests.integration.filling import Fact, Filled, fill


async def test_a_campaigns_row_sums_all_partitions_and_topics(pages: Pages) -> None:
    content = await pages.ok("/api/kpis", cube="campaign", window="5m", where="campaign_id:c-1")
    assert (content["cube"], content["total"]) == ("campaign", 1)
    assert (content["from"], content["to"]) == ("2026-11-23T11:55:10Z", "2026-11-23T12:00:10Z")
    (row,) = content["rows"]
    expected = {
        "campaign_id": "c-1",
        "impressions": 50,
        "clicks": 3,
        "conversions": 1,
        "conversions_new": 1,
        "conversions_purchase": 1,
        "conversions_refund": 1,
        "revenue": 10,
        "refunds": 1,
        "net_revenue": 9,
        "event_cost": Decimal("0.520001"),
        "spend": Decimal("0.520001"),
        "reported_spend": 0,
        "reported_minutes": 0,
        "engagements_impression": 50,
        "rating_sum": 0,
        "reach": 50,
        "dwell_p50": None,
        "ctr": Decimal("0.06"),
        "cpa": Decimal("0.520001"),
        "aov": 9,
        "share_rate": 0,
    }
    assert {name: row[name] for name in expected} == expected
    assert float(row["roas"]) == pytest.approx(9 / 0.520001, rel=1e-14)


async def test_a_range_leaves_out_what_lies_outside_it(pages: Pages) -> None:
    parameters = {"cube": "campaign", "where": "campaign_id:c-1", "from_": "2026-11-23T11:59:40Z", "to": "2026-11-23T11:59:50Z"}
    content = await pages.ok("/api/kpis", **parameters)
    assert [(row["clicks"], row["spend"], row["conversions"]) for row in content["rows"]] == [(1, Decimal("0.120001"), 1)]
    assert content["complete"] is True
    in_another_zone = {**parameters, "from_": "2026-11-23T12:59:40+01:00", "to": NOON - 10_000}
    assert (await pages.ok("/api/kpis", **in_another_zone)) == content


async def test_what_is_absent_is_a_row_of_its_own(pages: Pages) -> None:
    content = await pages.ok("/api/kpis", cube="campaign", window="5m", where="campaign_id:")
    assert [(row["campaign_id"], row["clicks"], row["spend"]) for row in content["rows"]] == [(None, 1, Decimal("0.000001"))]


async def test_rows_are_sorted_with_those_without_a_value_last(pages: Pages) -> None:
    async def order(sort: str) -> list[str | None]:
        return [row["campaign_id"] for row in (await pages.ok("/api/kpis", cube="campaign", window="5m", sort=sort))["rows"]]

    assert await order("-spend") == ["c-2", "c-1", None, "c-3"]
    assert await order("spend") == ["c-3", None, "c-1", "c-2"]
    assert await order("-cpc") == ["c-2", "c-1", None, "c-3"]
    assert await order("cpc") == [None, "c-1", "c-2", "c-3"]
    assert await order("-ctr") == ["c-1", "c-3", "c-2", None]
    assert await order("-reach") == ["c-1", "c-2", "c-3", None]
    assert await order("-campaign_id") == ["c-3", "c-2", "c-1", None]
    assert await order("campaign_id") == ["c-1", "c-2", "c-3", None]
    assert await order("-conversions_lead") == ["c-1", "c-2", "c-3", None]


async def test_pages_of_rows_follow_each_other_without_gap_or_repeat(pages: Pages) -> None:
    whole = await pages.ok("/api/kpis", cube="campaign", window="5m", sort="-clicks")
    parts = [await pages.ok("/api/kpis", cube="campaign", window="5m", sort="-clicks", limit=1, offset=i) for i in range(5)]
    assert [part["total"] for part in parts] == [4] * 5
    assert [row for part in parts for row in part["rows"]] == whole["rows"]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["owner:ann"], ["c-1"]),
        (["owner:bob"], ["c-2"]),
        (["owner:nobody"], []),
        (["owner:"], ["c-3", None]),
        (["labels.team:north"], ["c-1"]),
        (["name:[red] Summer"], ["c-2"]),
        (["owner:ann", "campaign_id:c-1"], ["c-1"]),
        (["owner:ann", "campaign_id:c-2"], []),
        (["campaign_id:c-1", "campaign_id:c-2"], []),
        (["channel:social"], ["c-2"]),
    ],
)
async def test_rows_are_selected_by_dimension_and_by_registry(pages: Pages, where: list[str], found: list[str | None]) -> None:
    content = await pages.ok("/api/kpis", cube="campaign", window="5m", where=where)
    assert [row["campaign_id"] for row in content["rows"]] == found
    assert content["total"] == len(found)


async def test_a_dimension_of_the_cube_wins_over_the_registrys_attribute(pages: Pages) -> None:
    content = await pages.ok("/api/kpis", cube="campaign_channel", window="5m", where=["channel:display"])
    assert [(row["campaign_id"], row["channel"]) for row in content["rows"]] == [("c-3", "display")]


async def test_every_cube_answers_with_its_dimensions_and_the_same_total(pages: Pages) -> None:
    for cube, dimensions in pages.settings.all_cubes.items():
        content = await pages.ok("/api/kpis", cube=cube, window="5m")
        assert sum(row["clicks"] for row in content["rows"]) == 5, cube
        assert all(list(row)[: len(dimensions)] == list(dimensions) for row in content["rows"])


async def test_columns_limit_a_row_and_keep_its_numbers(pages: Pages) -> None:
    whole = await pages.ok("/api/kpis", cube="campaign", window="5m", sort="-spend")
    part = await pages.ok("/api/kpis", cube="campaign", window="5m", sort="-spend", columns="cpa,clicks,arpu,conversions_lead")
    named = ("campaign_id", "clicks", "cpa", "arpu")
    assert [{name: row[name] for name in named} for row in whole["rows"]] == [{n: row[n] for n in named} for row in part["rows"]]
    assert [list(row) for row in part["rows"]] == [["campaign_id", "clicks", "conversions_lead", "cpa", "arpu"]] * 4
    for column in ("reach", "dwell_p50", "roas", "conversions_lead"):
        rows = (await pages.ok("/api/kpis", cube="campaign", window="5m", columns=column))["rows"]
        assert [list(row) for row in rows] == [["campaign_id", column]] * 4, column


async def test_a_window_long_past_is_empty(pages: Pages) -> None:
    content = await pages.ok("/api/kpis", cube="total", from_=NOON - 1_800_000, to=NOON - 1_790_000)
    assert (content["total"], content["rows"]) == (0, [])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"cube": "campaign"}, "from and to, or window"),
        ({"cube": "campaign", "from_": NOON}, "from and to, or window"),
        ({"cube": "campaign", "from_": NOON - 5, "to": NOON}, "multiples of 10s"),
        ({"cube": "campaign", "from_": NOON - 10_000, "to": NOON + 1}, "to=2026-11-23T12:00:10Z"),
        ({"cube": "campaign", "from_": NOON - 7_200_000 - 10_000, "to": NOON}, "multiples of 1m"),
        ({"cube": "campaign", "from_": NOON - 30 * 3_600_000 + 60_000, "to": NOON}, "multiples of 15m"),
        ({"cube": "campaign", "from_": NOON, "to": NOON}, "must be before"),
        ({"cube": "campaign", "from_": 0, "to": 86_400_000}, "kept"),
        ({"cube": "campaign", "from_": NOON, "to": 253_402_300_790_000}, "days apart. the longest window is 433d"),
        ({"cube": "campaign", "window": "15s"}, "window=20s"),
        ({"cube": "campaign", "window": "9999d"}, "longest window"),
        ({"cube": "campaigns", "window": "5m"}, "there are: total, account, campaign"),
        ({"cube": "campaign", "window": "5m", "sort": "-spent"}, "there are: campaign_id, impressions, clicks"),
        ({"cube": "campaign", "window": "5m", "sort": "channel"}, "unknown measure or dimension 'channel'"),
        ({"cube": "campaign", "window": "5m", "columns": "clicks,nonsense"}, "unknown measure 'nonsense'"),
        ({"cube": "campaign", "window": "5m", "where": "region:eu"}, "there are: campaign_id, name, owner"),
        ({"cube": "channel", "window": "5m", "where": "owner:ann"}, "there are: channel"),
        ({"cube": "total", "window": "5m", "where": "channel:search"}, "single row"),
    ],
)
async def test_what_cannot_be_answered_is_refused_and_says_what_there_is(pages: Pages, parameters: dict[str, Any], said: str) -> None:
    assert said in await pages.refused("/api/kpis", **parameters)


async def test_an_answer_may_be_as_old_as_its_asker_takes_and_says_how_old_it_is(pages: Pages) -> None:
    async with client_of(pages.settings.redis.url) as redis:
        before = await pages.ok("/api/kpis", cube="total", window="5m", max_age="60s")
        more = [Fact(NOON - 1_000, {"channel": "search"}, {"clicks": 1_000})]
        await fill(redis, pages.settings, Filled(Topic.CLICKS, 7, more, record_time=NOON))
        assert await pages.ok("/api/kpis", cube="total", window="5m", max_age="60s") == before
        now = await pages.ok("/api/kpis", cube="total", window="5m")
        assert now["rows"][0]["clicks"] == before["rows"][0]["clicks"] + 1_000
    for age, told in (({"max_age": "60s"}, True), ({}, False)):
        async with pages.client.get(f"{pages.server.url}/api/kpis", params={"cube": "total", "window": "5m", **age}) as answer:
            assert ("Age" in answer.headers) is told
            assert int(answer.headers.get("Age", "0")) < 60


async def test_an_age_beyond_a_minute_is_refused(pages: Pages) -> None:
    assert "max_age: '61s' is more than 1m" in await pages.refused("/api/kpis", cube="total", window="5m", max_age="61s")
