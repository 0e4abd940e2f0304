"""The command `campaignwatch alerts`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from alerts.app.feed import check_ladder
from alerts.app.process import run
from alerts.rules import Rule, load_rules
from streams import logs
from streams.config import Settings, load
from streams.kafka import connection
from streams.memory import share_one_heap
from streams.options import ConfigOption
from streams.preflight import check_redis
from streams.stopping import leave, stopping_on_signals, unless_stopped

log = logging.getLogger(__name__)


def alerts(config: ConfigOption = None) -> None:
    """Judge the tables, keep the incidents and deliver them. Run as many replicas as you like: one evaluates, all deliver."""
    settings = load(config)
    rules = load_rules(settings, config)
    check_ladder(settings)
    logs.configure(settings.log_level)
    share_one_heap()
    asyncio.run(_main(settings, rules))
    leave()


async def _main(settings: Settings, rules: Sequence[Rule]) -> None:
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        log.info("alerts: starting")
        # Files that cannot be used are to be said now, and not when there is something to deliver.
        connection(settings.kafka)
        if await unless_stopped(stop, check_redis(settings)):
            await run(settings, rules, stop)
