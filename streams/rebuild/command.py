"""The command `campaignwatch rebuild`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from streams.config import INPUT_TOPICS, Settings, load
from streams.logs import configure
from streams.memory import collect_seldom
from streams.options import ConfigOption
from streams.preflight import check_kafka, check_redis
from streams.rebuild.rebuilding import Progress, RebuildError, Rebuilt, rebuild
from streams.redis_client import connect


def rebuild_tables(
    config: ConfigOption = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on although the log no longer has all that the tables in use have counted.")
    ] = False,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave the old tables in Redis; the next rebuild deletes them.")] = False,
    grace: Annotated[
        float, typer.Option(min=0.0, help="Seconds from the switch until the old tables go, for pages that are being answered.")
    ] = 15.0,
) -> None:
    """Build the KPI tables anew from the log, beside those in use, and switch over.

    For when the tables cannot be trusted (see `campaignwatch doctor`), or settings changed that what is stored depends on. Workers, pages
    and alerts go on meanwhile and need no restart: they move to the new tables by themselves. Redis needs room for both. What the log no
    longer has (kafka.retention_hours) cannot be built again: then nothing is done unless --accept-loss says so. Incidents are not touched.

    Exit status: 0 switched over, 2 not done, and the tables in use are as before.
    """
    settings = load(config)
    collect_seldom()
    configure(settings.log_level if settings.log_level != "INFO" else "ERROR")
    result = asyncio.run(_run(settings, accept_loss=accept_loss, keep_old=keep_old, grace=grace))
    typer.echo(f"built anew from {result.records:,} records in {result.seconds:.1f} s and switched over (generation {result.generation})")
    if result.lost:
        typer.echo(
            f"{sum(result.lost.values()):,} records that the old tables had counted are not in the log any more, and not in the new ones"
        )
    typer.echo(f"workers write the new tables in {result.taken_over} of {result.partitions} partitions{_idle(result)}")
    typer.echo(f"{result.deleted:,} keys of the old tables deleted" if not keep_old else "the old tables are still in Redis")


def _idle(result: Rebuilt) -> str:
    return "" if result.taken_over == result.partitions else "; the others follow when a worker has them"


async def _run(settings: Settings, *, accept_loss: bool, keep_old: bool, grace: float) -> Rebuilt:
    await check_redis(settings)
    await check_kafka(settings, INPUT_TOPICS)
    console = Console(stderr=True)
    columns = (TextColumn("reading the log"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    redis = connect(settings)
    try:
        with Bar(*columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("log", total=None, rate="")

            def tell(progress: Progress) -> None:
                bar.update(task, completed=progress.read, total=progress.of, rate=f"{progress.rate:,.0f}/s")

            return await rebuild(settings, redis, accept_loss=accept_loss, keep_old=keep_old, grace=grace, tell=tell)
    except (RedisError, KafkaError, OSError, TimeoutError) as error:
        raise RebuildError(
            f"{type(error).__name__}: {error}; the tables in use are as before, unless it says above that it switched"
        ) from error
    finally:
        await redis.aclose()
