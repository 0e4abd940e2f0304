"""The command `campaignwatch privacy erase`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from redis.exceptions import RedisError

from streams.config import Settings, Topic, load
from streams.errors import UserError
from streams.options import ConfigOption
from streams.preflight import check_redis
from streams.printable import printable
from streams.privacy.erasing import Removed, erase
from streams.privacy.quarantined import holding
from streams.redis_client import connect

#: Seconds between two words about how far it is, where they cannot be written over each other.
_SILENCE = 10.0


class ErasureError(UserError):
    """Users could not be erased; what to do next is in the message, and no id."""


def privacy_erase(
    user: Annotated[
        list[str],
        typer.Option("--user", metavar="ID", help="A user's id as producers send it; repeatable. - reads standard input."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="List quarantined records whose bytes hold an id, too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Erase users: out of `reach` in every table, and no event from before this moment brings them back.

    With `--user -` ids come from standard input, one a line, and stay out of the shell's history. Counts and money stay: they name nobody.
    Safe to repeat, while workers run. Exit status 1: nobody was found in the tables.
    """
    users = [name for one in user for name in (sys.stdin.read().splitlines() if one == "-" else [one]) if name]
    if not users:
        raise ErasureError("no user id was given; write one a line on standard input, or --user ID")
    settings = load(config)
    removed = asyncio.run(_erase(settings, users, dry_run))
    done = "would be removed" if dry_run else "removed"
    typer.echo(f"{sum(removed.entries.values())} entries {done} from {removed.changed} of {removed.logs} reach logs")
    for topic, count in sorted(removed.entries.items()):
        typer.echo(f"{topic}: {count}")
    if not dry_run:
        days = settings.erased_keep_hours / 24
        typer.echo(
            f"{len(set(users))} users are on the list of erased ones for {days:g} days: events from before now do not bring them back"
        )
    if quarantine:
        asyncio.run(_in_quarantine(settings, users))
    typer.echo(
        f"Not touched: Kafka's topics. Input topics keep events until their retention has passed, {settings.topic(Topic.QUARANTINE)} keeps "
        "refused records whole until its own has passed.",
        err=True,
    )
    if not removed.entries:
        raise typer.Exit(1)


async def _erase(settings: Settings, users: list[str], dry_run: bool) -> Removed:
    await check_redis(settings)

    shown = 0.0

    def progress(words: str) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            typer.echo(f"\r\x1b[K{words}", nl=False, err=True)
        elif time.monotonic() - shown > _SILENCE:
            typer.echo(words, err=True)
        else:
            return
        shown = time.monotonic()

    shown = time.monotonic()
    redis = connect(settings)
    try:
        return await erase(redis, settings, users, time.time_ns() // 1_000_000, dry_run=dry_run, progress=progress)
    except (RedisError, OSError) as error:
        raise ErasureError(f"Redis failed while users were being erased ({error}); run the command again, it is safe to repeat") from error
    finally:
        if sys.stderr.isatty():
            typer.echo("", err=True)
        await redis.aclose()


async def _in_quarantine(settings: Settings, users: Sequence[str]) -> None:
    """Say which quarantined records hold an id. They cannot be taken out; whoever must can look at them and knows until when they stay."""
    count = 0
    async for coordinates in holding(settings, users):
        typer.echo(f"quarantined: {printable(str(coordinates))}")
        count += 1
    typer.echo(f"{count} records of {settings.topic(Topic.QUARANTINE)} hold one of the ids; `campaignwatch quarantine show` shows one")
