"""The command `campaignwatch alerts`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from alerts.app.feed import check_ladder
from alerts.app.process import run, stop_on_signals
from alerts.rules import Rule, load_rules
from streams import logs
from streams.config import Settings, load
from streams.options import ConfigOption
from streams.preflight import check_redis


def alerts(config: ConfigOption = None) -> None:
    """Judge the tables, keep the incidents and deliver them. Run as many replicas as you like: one evaluates, all deliver."""
    settings = load(config)
    rules = load_rules(settings, config)
    check_ladder(settings)
    logs.configure(settings.log_level)
    asyncio.run(_main(settings, rules))


async def _main(settings: Settings, rules: Sequence[Rule]) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await check_redis(settings)
    await run(settings, rules, stop)
