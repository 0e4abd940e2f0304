"""The command `campaignwatch produce`: a simulated marketing day against a broker of your own."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import typer

from streams.config import Settings, load
from streams.errors import UserError
from streams.options import ConfigOption
from streams.preflight import check_kafka
from streams.simulate.faults import plan_faults
from streams.simulate.history import Playback
from streams.simulate.lengths import read_duration
from streams.simulate.producer import EventProducer
from streams.simulate.traffic import Traffic
from streams.simulate.world import CAMPAIGNS, RATE, build_world

#: A round of faults comes this often, seconds.
_FAULT_ROUND = 1_800


def produce(
    duration: Annotated[str | None, typer.Option(help="How long, after the history: 90s, 10m, 2h.  [default: until Ctrl-C]")] = None,
    history: Annotated[str, typer.Option(help="How much of the past to play first, as fast as it goes; 0 for none.")] = "45m",
    seed: Annotated[int, typer.Option(help="The same seed makes the same campaigns.")] = 1,
    campaigns: Annotated[int, typer.Option(help="How many campaigns.")] = CAMPAIGNS,
    rate: Annotated[float, typer.Option(help="Events per second of all campaigns, mean over a day.")] = RATE,
    faults: Annotated[bool, typer.Option(help="Break something every few minutes, and say so.")] = True,
    config: ConfigOption = None,
) -> None:
    """Play a simulated marketing day to Kafka: campaigns, clicks, conversions, spend."""
    try:
        seconds = None if duration is None else read_duration(duration)
        past = read_duration(history)
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        asyncio.run(_produce(load(config), seconds, past, seed, campaigns, rate, faults))
    except KeyboardInterrupt:
        typer.echo("ended")


async def _produce(settings: Settings, seconds: float | None, past: float, seed: int, campaigns: int, rate: float, faults: bool) -> None:
    await check_kafka(settings)
    rng = np.random.default_rng(seed)
    try:
        world = build_world(rng, campaigns, rate, {settings.money.reporting_currency, *settings.money.rates})
    except ValueError as error:
        raise UserError(str(error)) from error
    start = (int(time.time()) - int(past)) // 60 * 60 if past else int(time.time())
    # Ids of an earlier run must not come again: they would be duplicates.
    traffic = Traffic(world, rng, start, run=f"{seed:x}-{start:x}")
    async with EventProducer(settings, world) as producer:
        await producer.register(datetime.now(UTC).date())
        playback = Playback(traffic, producer, start * 1000, _now)
        began = time.monotonic()
        total = await playback.catch_up()
        typer.echo(f"played {total:,} events of the past in {time.monotonic() - began:.0f} s; now live")
        if seconds is not None:
            playback.end = playback.position + int(seconds * 1000)
        playing = asyncio.create_task(playback.follow())
        try:
            while faults and not playing.done():
                planned = plan_faults(world, _now(), _FAULT_ROUND)
                traffic.inject(planned)
                for fault in planned:
                    await asyncio.wait({playing}, timeout=(fault.start - _now()) / 1000)
                    if playing.done():
                        break
                    typer.echo(
                        f"fault: {fault.kind} at {fault.campaign_id} until {datetime.fromtimestamp(fault.end / 1000, UTC):%H:%M:%S} UTC"
                    )
                if planned:
                    await asyncio.wait({playing}, timeout=max(0.0, (planned[0].start - _now()) / 1000 + _FAULT_ROUND))
            await playing
        finally:
            playing.cancel()


def _now() -> int:
    return time.time_ns() // 1_000_000
