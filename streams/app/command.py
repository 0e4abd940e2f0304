"""The command `campaignwatch streams`."""

from __future__ import annotations

import asyncio
import logging
import os

from streams.app.pages import Pages
from streams.config import INPUT_TOPICS, Privacy, Settings, Topic, load
from streams.kafka import consumer_group
from streams.logs import configure
from streams.memory import share_one_heap
from streams.options import ConfigOption
from streams.preflight import check_group, check_kafka, check_redis
from streams.stopping import leave, stopping_on_signals, unless_stopped

log = logging.getLogger(__name__)


def streams(config: ConfigOption = None) -> None:
    """Run a streams worker: it reads the topics' partitions that Kafka gives it and keeps their KPI tables in Redis.

    Start as many as there is work for, up to one per partition; they share it. SIGTERM ends a worker cleanly.
    """
    settings = load(config)
    configure(settings.log_level)
    if settings.privacy.user_key == Privacy().user_key:
        log.warning("privacy.user_key is the built-in one, which everybody knows: user ids can be guessed from the tables; set your own")

    share_one_heap()
    with Pages(settings) as pages:
        # The pages, a process of their own by now, stay what they are: somebody waits for them.
        os.nice(settings.streams.nice)
        asyncio.run(_main(settings, pages))
    leave()


async def _main(settings: Settings, pages: Pages) -> None:
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        log.info("streams worker starting")
        # Loading Faust takes a while; the signals are heard before.
        from streams.app.worker import run
        from streams.ingest.warm_up import warm_up

        async def check() -> None:
            await check_redis(settings)
            await check_kafka(settings, (*INPUT_TOPICS, Topic.QUARANTINE))
            await check_group(settings, consumer_group(settings))

        # A worker that owns partitions and compiles would hold them up.
        if await unless_stopped(stop, check()) and await unless_stopped(stop, asyncio.to_thread(warm_up)):
            await run(settings, stop, pages)
