"""What a running leader reads again: everything that may have changed since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from alerts.app.feed import Registry
from streams.config import Settings
from streams.tables.reader import TableReader
from streams.tables.windows import Registered

#: A whole hour.
NOON = 1_795_435_200_000
AT = datetime.fromtimestamp(NOON / 1000, UTC)


class Tables:
    """Tables that change while a leader reads them."""

    def __init__(self) -> None:
        self.registry: dict[str, Registered] = {}

    async def campaigns(self) -> dict[str, Registered]:
        return dict(self.registry)


def reader(tables: Tables) -> TableReader:
    return cast(TableReader, cast(Any, tables))


async def test_the_registry_is_read_every_half_a_minute_also_when_the_clock_is_set_back() -> None:
    tables = Tables()
    registry = Registry(reader(tables), Settings())

    async def names_at(at: datetime, written: str) -> list[str]:
        tables.registry = {written: {"campaign_id": written, "budget": {"daily": "100"}}}
        await registry.refresh(at)
        assert list(registry.plans) == list(registry.campaigns)
        return list(registry.campaigns)

    assert await names_at(AT, "c-1") == ["c-1"]
    assert await names_at(AT + timedelta(seconds=29), "c-2") == ["c-1"]
    assert await names_at(AT + timedelta(seconds=30), "c-3") == ["c-3"]
    an_hour_back = AT - timedelta(hours=1)
    assert await names_at(an_hour_back, "c-4") == ["c-4"]
    assert await names_at(an_hour_back + timedelta(seconds=29), "c-5") == ["c-4"]
