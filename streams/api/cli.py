"""The command `campaignwatch kpis`: the same answers as `/api/kpis`, read straight from Redis, as a table, JSON or CSV."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.api.encoding import encode
from streams.api.kpis import DEFAULT_LIMIT, KpiPage, KpiQuery, answer
from streams.api.query import read_condition, read_names, read_sort
from streams.api.span import span_of
from streams.api.times import read_length, read_time, write_time
from streams.config import ConfigError, Settings, load
from streams.errors import UserError
from streams.kpis.formulas import KPIS, KpiUnit, is_measure
from streams.kpis.measures import APPROXIMATE, Unit, unit_of
from streams.options import ConfigOption
from streams.printable import printable, printable_lines
from streams.redis_client import connect, shown
from streams.tables.reader import TableReader
from streams.tables.windows import Registered, TableError

#: Columns of the table when none are named: the funnel from left to right, then what it cost and brought.
DEFAULT_COLUMNS = ("impressions", "clicks", "conversions", "spend", "net_revenue", "ctr", "cvr", "cpc", "cpa", "roas")
#: Seconds between two looks of --watch.
_REFRESH_SECONDS = 2.0


def kpis(
    cube: Annotated[str, typer.Option(help="The table: total, campaign, channel, ... or a cube of your own.")] = "campaign",
    window: Annotated[str | None, typer.Option(help="This long, up to now: 10s, 5m, 1h, 1d.  [default: 5m]")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Start, included: RFC 3339 or epoch ms.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="End, excluded.")] = None,
    sort: Annotated[str | None, typer.Option(help="A measure, KPI or dimension; - in front for descending.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Only rows with this value: channel:search, owner:ann. May be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Rows at most.")] = DEFAULT_LIMIT,
    columns: Annotated[str | None, typer.Option(help="Measures and KPIs to show, with commas between: clicks,spend,ctr.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON of /api/kpis.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the KPIs of campaigns, channels, ... over a window."""
    if as_json + as_csv + watch > 1:
        raise UserError("--json, --csv and --watch exclude each other; take one of them")
    try:
        settings = load(config)
        if window is None and start is None and end is None:
            window = "5m"
        table = not (as_json or as_csv)
        shown = columns.split(",") if columns else list(DEFAULT_COLUMNS)
        query = KpiQuery(
            cube=cube,
            span=span_of(start and read_time(start), end and read_time(end), window and read_length(window)),  # type: ignore[arg-type]
            sort=read_sort(sort) if sort else None,
            limit=limit,
            where=tuple(read_condition(text) for text in where or ()),
            columns=read_names(",".join(shown)) if table or columns else None,
        )
    except (ConfigError, ValueError) as error:
        raise UserError(str(error)) from error
    if watch:
        try:
            asyncio.run(_watch(query, shown, settings))
        except KeyboardInterrupt:
            return
        return
    page, registry = asyncio.run(_once(query, settings, with_names=table))
    if as_json:
        _write(encode(page.content()).decode() + "\n")
    elif as_csv:
        _write(as_csv_text(page, [*page.dimensions, *shown] if columns else None))
    else:
        _console().print(render(page, registry, shown, settings.money.reporting_currency))


def _write(text: str) -> None:
    # To programs as it is; a terminal would act on what a producer wrote.
    sys.stdout.write(printable_lines(text) if sys.stdout.isatty() else text)


async def _once(query: KpiQuery, settings: Settings, with_names: bool) -> tuple[KpiPage, dict[str, Registered]]:
    async with connect(settings) as redis:
        return await _ask(query, TableReader(redis, settings), settings, with_names)


async def _watch(query: KpiQuery, columns: Sequence[str], settings: Settings) -> None:
    console = _console()
    async with connect(settings) as redis, AsyncExitStack() as stack:
        reader = TableReader(redis, settings)
        # In a pipe there is nothing to draw over: one table after the other.
        live = stack.enter_context(Live(console=console, auto_refresh=False, screen=True)) if console.is_terminal else None
        while True:
            content: RenderableType
            try:
                page, registry = await _ask(query, reader, settings, with_names=True)
                content = render(page, registry, columns, settings.money.reporting_currency)
            except RedisAway as error:
                # Redis may come back; the watcher waits for it.
                content = Text(str(error), style="red")
            if live is None:
                console.print(content)
            else:
                live.update(content, refresh=True)
            await asyncio.sleep(_REFRESH_SECONDS)


class RedisAway(UserError):
    """The tables cannot be read because Redis does not answer."""


async def _ask(query: KpiQuery, reader: TableReader, settings: Settings, with_names: bool) -> tuple[KpiPage, dict[str, Registered]]:
    try:
        page = await answer(query, reader, settings, time.time_ns() // 1_000_000)
        names = await reader.campaigns() if with_names and "campaign_id" in page.dimensions else {}
    except TableError as error:
        raise UserError(str(error)) from error
    except (RedisError, OSError) as error:
        advice = "start it, or set redis.url (CAMPAIGNWATCH_REDIS__URL)"
        raise RedisAway(f"Redis at {shown(settings)} does not answer ({error}); {advice}") from error
    return page, names


def _console() -> Console:
    # Without a terminal there is no width to keep to, and a file is better off with whole columns.
    return Console() if sys.stdout.isatty() else Console(width=200)


def render(page: KpiPage, registry: Mapping[str, Registered], columns: Sequence[str], currency: str) -> RenderableType:
    """The page as a table: money with two places, shares as percentages, `-` where there is nothing to tell."""
    state = "complete" if page.complete else "still filling"
    title = f"{page.cube}, {write_time(page.start)} to {write_time(page.end)}, {state}"
    table = Table()
    for dimension in page.dimensions:
        table.add_column(dimension, overflow="fold")
        if dimension == "campaign_id" and registry:
            table.add_column("name", overflow="ellipsis", no_wrap=True, max_width=32)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in page.rows:
        cells: list[str] = []
        for dimension in page.dimensions:
            cells.append(_dimension(row[dimension]))
            if dimension == "campaign_id" and registry:
                cells.append(_dimension(registry.get(row[dimension] or "", {}).get("name")))
        # Text, so that a campaign called "[red]" is not taken for markup.
        table.add_row(*(Text(cell) for cell in (*cells, *(formatted(column, row[column]) for column in columns))))
    return Group(Text(title, style="bold"), table, Text(f"{len(page.rows)} of {page.total} rows; money in {currency}", style="dim"))


def _dimension(value: str | None) -> str:
    return "-" if value is None else printable(value)


def formatted(column: str, value: int | float | Decimal | None) -> str:
    """A measure or KPI for people: `1,234`, `12.30`, `4.56%`, `2.50x`, `-` for nothing to tell."""
    if value is None:
        return "-"
    if column in KPIS:
        unit = KPIS[column].unit
        return f"{value:,.2%}" if unit is KpiUnit.SHARE else f"{value:,.2f}x" if unit is KpiUnit.MULTIPLE else f"{value:,.2f}"
    if column in APPROXIMATE:
        return f"{value:,.0f}"
    if is_measure(column) and unit_of(column) in (Unit.MONEY, Unit.HUNDREDTHS):
        return f"{value:,.2f}"
    return f"{value:,}"


def as_csv_text(page: KpiPage, columns: Sequence[str] | None = None) -> str:
    """The page as CSV (RFC 4180, lines ending in a line feed) with a header; nothing where there is nothing to tell."""
    header = list(columns or (page.rows[0] if page.rows else page.dimensions))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in page.rows:
        writer.writerow([_cell(row[name]) for name in header])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    # Never with an exponent, which spreadsheets and scripts read differently.
    return format(Decimal(repr(value)) if isinstance(value, float) else value, "f") if isinstance(value, float | Decimal) else value
