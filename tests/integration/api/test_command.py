"""`campaignwatch kpis`: the same answers as the page, for people and for scripts."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from streams.api.cli import kpis
from tests.integration.api.served import Pages


@pytest.fixture
def command(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`campaignwatch kpis` over the same tables."""
    monkeypatch.setenv("CAMPAIGNWATCH_REDIS__URL", pages.settings.redis.url)
    monkeypatch.setenv("CAMPAIGNWATCH_REDIS__NAMESPACE", pages.settings.redis.namespace)
    app = typer.Typer()
    app.command()(kpis)
    span = ("--from", "2026-11-23T11:55:10Z", "--to", "2026-11-23T12:00:10Z")
    return lambda *words: CliRunner().invoke(app, [*span, *words])


async def test_the_command_prints_a_table_for_people(command: Callable[..., Any]) -> None:
    result = await asyncio.to_thread(command, "--sort", "-spend")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    first = next(line for line in lines if "c-2" in line)
    assert "[red] Summer" in first
    assert "4.00" in first
    assert "6.00%" in next(line for line in lines if "c-1" in line)
    assert "4 of 4 rows; money in USD" in result.output


async def test_the_commands_json_is_the_pages_json(command: Callable[..., Any], pages: Pages) -> None:
    result = await asyncio.to_thread(command, "--sort", "-spend", "--where", "owner:ann", "--json")
    page = await pages.ok("/api/kpis", cube="campaign", window="5m", sort="-spend", where="owner:ann")
    assert json.loads(result.output, parse_float=Decimal) == page


async def test_the_commands_csv_has_every_digit(command: Callable[..., Any]) -> None:
    result = await asyncio.to_thread(command, "--sort", "-clicks", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.output)))
    found = [(row["campaign_id"], row["spend"], row["cpc"]) for row in rows]
    assert found[1:] == [("c-2", "4", "4.0"), ("", "0.000001", "0.000001"), ("c-3", "0", "")]
    result = await asyncio.to_thread(command, "--sort", "-clicks", "--csv", "--columns", "spend,clicks")
    assert result.output.splitlines()[:2] == ["campaign_id,spend,clicks", "c-1,0.520001,3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cube", "nonsense"), "unknown cube 'nonsense'"),
        (("--sort", "-spent"), "unknown measure or dimension 'spent'"),
        (("--where", "channel"), "write NAME:VALUE"),
        (("--window", "5m"), "from and to, or window"),
        (("--json", "--csv"), "exclude each other"),
        (("--columns", "clicks,,"), "not a list of columns"),
    ],
)
async def test_the_command_refuses_in_a_sentence(command: Callable[..., Any], words: tuple[str, ...], said: str) -> None:
    result = await asyncio.to_thread(command, *words)
    assert said in str(result.exception)


async def test_the_command_says_that_redis_is_away(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_REDIS__URL", "redis://:secret@127.0.0.1:1/0")
    result = await asyncio.to_thread(command)
    assert "Redis at redis://***@127.0.0.1:1/0 does not answer" in str(result.exception)
    assert "secret" not in str(result.exception)


async def test_watching_shows_it_again_until_interrupted(pages: Pages) -> None:
    connection = {
        "CAMPAIGNWATCH_REDIS__URL": pages.settings.redis.url,
        "CAMPAIGNWATCH_REDIS__NAMESPACE": pages.settings.redis.namespace,
    }
    words = ("--from", "2026-11-23T11:55:10Z", "--to", "2026-11-23T12:00:10Z", "--watch")
    watcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alerts.cli", "kpis", *words),
        env={**os.environ, **connection, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert watcher.stdout is not None
    seen = 0
    try:
        async with asyncio.timeout(60):
            async for line in watcher.stdout:
                seen += b"4 of 4 rows" in line
                if seen == 2:
                    break
            watcher.send_signal(signal.SIGINT)
            _, errors = await watcher.communicate()
    finally:
        if watcher.returncode is None:
            watcher.kill()
            await watcher.wait()
    assert (seen, watcher.returncode, errors.decode()) == (2, 0, "")
