"""What the pages understand, what they refuse, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.api import openapi
from streams.api.campaigns import campaigns_content
from streams.api.pages import SHAPES, Page, pages
from streams.api.query import BadQuery, Condition, Sort, read_condition, read_names, read_parameters, read_sort
from streams.api.selection import has_attribute
from streams.api.span import span_of
from streams.api.times import LAST_MS, read_length, read_time, round_up, write_length, write_time
from streams.config import Settings

NOON = 1_795_435_200_000  # 2026-11-23T12:00:00Z
DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def page(path: str) -> Page:
    return next(p for p in pages(Settings()) if p.path == path)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T12:00:00Z",
        "2026-11-23t12:00:00z",
        "2026-11-23 12:00:00.000Z",
        "2026-11-23T14:00:00+02:00",
        "2026-11-23T14:00:00 02:00",
        "2026-11-23 14:00:00 02:00",
        "2026-11-23T06:30:00-05:30",
        "1795435200000",
    ],
)
def test_a_time_is_understood(text: str) -> None:
    assert read_time(text) == NOON


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-11-23T12:00:00", "offset"),
        ("2026-11-23 12:00:00", "offset"),
        ("2026-11-23", "RFC 3339"),
        ("2026-02-30T12:00:00Z", "no such time"),
        ("2026-11-23T23:59:60Z", "leap second"),
        ("2026-11-23T12:00:00+24:00", "offset"),
        ("1969-12-31T23:59:59Z", "1970"),
        ("0001-01-01T00:00:00+01:00", "years"),
        ("999999999999999", "9999"),
        ("-1", "RFC 3339"),
        ("now", "RFC 3339"),
        ("", "RFC 3339"),
        ("\u0661\u0662", "RFC 3339"),
    ],
)
def test_a_time_that_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_time(text)


@given(st.integers(0, LAST_MS))
def test_a_time_that_was_written_is_read_as_it_was(ms: int) -> None:
    assert read_time(write_time(ms)) == ms


def test_times_are_written_in_utc_without_needless_digits() -> None:
    assert write_time(NOON) == "2026-11-23T12:00:00Z"
    assert write_time(NOON + 5) == "2026-11-23T12:00:00.005Z"


@given(st.integers(1, 10**8), st.sampled_from("smhd"))
def test_a_length_that_was_written_is_read_as_it_was(number: int, unit: str) -> None:
    ms = read_length(f"{number}{unit}")
    assert read_length(write_length(ms)) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "0m", "-5m", "5 m", "5M", "1.5h", "5min", "1h30m", "1e3s"])
def test_a_length_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        read_length(text)


@given(st.integers(0, LAST_MS), st.integers(1, 86_400_000))
def test_rounding_up_gives_the_next_multiple(ms: int, step: int) -> None:
    up = round_up(ms, step)
    assert up % step == 0
    assert 0 <= up - ms < step


def test_a_condition_is_split_at_its_first_colon() -> None:
    assert read_condition("campaign_id:a:b") == Condition("campaign_id", "a:b")
    assert read_condition("channel:") == Condition("channel", None)


def test_sort_and_columns() -> None:
    assert read_sort("-spend") == Sort("spend", descending=True)
    assert read_sort("ctr") == Sort("ctr", descending=False)
    assert read_names("clicks,ctr") == {"clicks", "ctr"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([], "cube is missing"),
        ([("cube", "nonsense")], "'nonsense' is not known; there are: total, account, campaign"),
        ([("cube", "total"), ("colour", "red")], "unknown parameter 'colour'; there are: cube, from, to, window, sort"),
        ([("cube", "total"), ("cube", "campaign")], "cube is given 2 times"),
        ([("cube", "total"), ("limit", "0")], "limit: '0' is not a whole number from 1 to 1000"),
        ([("cube", "total"), ("limit", "1001")], "from 1 to 1000"),
        ([("cube", "total"), ("limit", "")], "whole number"),
        ([("cube", "total"), ("offset", "-1")], "whole number"),
        ([("cube", "total"), ("limit", "\u0665")], "whole number"),
        ([("cube", "total"), ("sort", "--spend")], "sort: '--spend' is not a column"),
        ([("cube", "total"), ("where", "channel")], "write NAME:VALUE"),
        ([("cube", "total"), ("where", ":x")], "write NAME:VALUE"),
        ([("cube", "total"), ("columns", "clicks,")], "list of columns"),
        ([("cube", "total"), ("window", "5 minutes")], "window: '5 minutes' is not a length of time"),
        ([("cube", "total"), ("from", "yesterday")], "from: 'yesterday' cannot be used"),
    ],
)
def test_what_a_page_refuses_it_names(query: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(BadQuery) as refused:
        read_parameters(page("/api/kpis").parameters, query)
    assert message in str(refused.value)


def test_a_page_fills_in_what_is_left_out() -> None:
    values = read_parameters(page("/api/kpis").parameters, [("cube", "campaign"), ("where", "campaign_id:a"), ("where", "owner:b")])
    assert (values["limit"], values["offset"], values["sort"], values["columns"]) == (100, 0, None, None)
    assert values["where"] == (Condition("campaign_id", "a"), Condition("owner", "b"))


def test_an_operators_own_cube_can_be_asked_for() -> None:
    settings = Settings(cubes={"keyword": ("campaign_id", "keyword")})
    own = next(p for p in pages(settings) if p.path == "/api/kpis")
    assert read_parameters(own.parameters, [("cube", "keyword")])["cube"] == "keyword"


@pytest.mark.parametrize("given_times", [(None, None, None), (1, None, None), (None, 2, None), (1, 2, 3), (1, None, 3)])
def test_either_a_range_or_a_window_is_needed(given_times: tuple[int | None, int | None, int | None]) -> None:
    with pytest.raises(BadQuery, match="from and to, or window"):
        span_of(*given_times)


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ("name:Spring", True),
        ("name:spring", False),
        ("owner:", True),
        ("owner:ann", False),
        ("currency:", True),
        ("labels.team:north", True),
        ("labels.team:south", False),
        ("labels.other:", True),
        ("labels:team", True),
        ("labels:", False),
    ],
)
def test_a_campaign_has_an_attribute_or_lacks_it(condition: str, fits: bool) -> None:
    campaign = {"name": "Spring", "owner": "", "labels": {"team": "north"}, "pacing": "even"}
    assert has_attribute(campaign, read_condition(condition)) is fits


def test_campaigns_are_paged_and_counted() -> None:
    registry = {f"c-{i}": {"name": f"Campaign {i}", "owner": "ann" if i % 2 else "bob"} for i in range(5)}
    got = campaigns_content(registry, [Condition("owner", "ann")], limit=1, offset=1)
    assert got == {"total": 2, "campaigns": [{"name": "Campaign 3", "owner": "ann", "campaign_id": "c-3"}]}
    with pytest.raises(BadQuery, match="unknown attribute 'colour'"):
        campaigns_content(registry, [Condition("colour", "red")], limit=1, offset=0)


def test_the_committed_interface_document_is_true() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == openapi.text(Settings()), "run: python -m streams.api.openapi > docs/openapi.json"


def test_the_interface_document_names_every_page_and_only_shapes_that_exist() -> None:
    document = openapi.document(Settings())
    assert set(document["paths"]) == {p.path for p in pages(Settings())}
    references = [part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]]
    assert set(references) == set(SHAPES)
