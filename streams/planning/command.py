"""The command `campaignwatch plan`."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Annotated, Any

import typer

from streams.config import DIMENSIONS, Topic, load
from streams.errors import UserError
from streams.options import ConfigOption
from streams.planning.cluster import Assumptions, plan_for
from streams.planning.load import EVENTS, Load, Values, usual_values
from streams.planning.measured import Coefficients, load_coefficients
from streams.planning.report import as_json, as_text

#: Events a day of a user, where the users are not given.
_EVENTS_OF_A_USER = 50
_GIB = 2**30


class PlanError(UserError):
    """What was asked for cannot be planned. The message names the option and what it takes."""


def plan(
    events_per_second: Annotated[float, typer.Option(min=0.01, max=1e9, help="Events a second of all topics together, on a busy day.")],
    campaigns: Annotated[int, typer.Option(min=1, max=100_000_000, help="Campaigns that have events on a day.")],
    users: Annotated[
        float | None, typer.Option(min=1, max=1e11, help=f"Different users a day. Default: one for every {_EVENTS_OF_A_USER} events.")
    ] = None,
    with_user: Annotated[
        str, typer.Option(metavar="PART", help="Part of the events that carry a user_id: 0.5, or by topic: clicks=1,engagements=0.")
    ] = "1",
    campaigns_per_user: Annotated[float, typer.Option(min=1, max=1e6, help="Campaigns that a user meets in a day.")] = 5.0,
    mix: Annotated[str, typer.Option(help="Part of the events by topic.")] = "clicks=0.09,conversions=0.01,engagements=0.9",
    timed: Annotated[float, typer.Option(min=0, max=1, help="Part of the engagements with dwell_ms or load_ms.")] = 0.1,
    reports: Annotated[float, typer.Option(min=0, max=10_000, help="Spend reports of a campaign and day.")] = 1.0,
    event_bytes: Annotated[float, typer.Option(min=50, max=65_536, help="Bytes of an event in Kafka, key included.")] = 450.0,
    values: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIMENSION=N[:ALL]",
            help="Values of a dimension in a campaign, and in all; may be repeated. Usual: creative_id=4, channel=2:6, region=8:8, ...",
        ),
    ] = None,
    largest_campaign: Annotated[
        float | None, typer.Option(min=0, max=1, help="Part of all events that the largest campaign sends. Default: all campaigns alike.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Partitions of each topic. Default: what the workers need.")
    ] = None,
    headroom: Annotated[float, typer.Option(min=1, max=100, help="Workers' capacity over the load, for peaks and for catching up.")] = 1.3,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Copies of each Kafka partition.")] = 3,
    compression: Annotated[
        float, typer.Option(min=0.01, max=1, help="Size of events in Kafka over their own; below 1 where producers compress.")
    ] = 1.0,
    master_memory: Annotated[float, typer.Option(min=0.1, max=100_000, metavar="GIB", help="Memory of a Redis master.")] = 64.0,
    redis_headroom: Annotated[
        float, typer.Option(min=1, max=10, help="Redis' memory over the tables: 2 leaves room for `rebuild` and for the append-only file.")
    ] = 2.0,
    coefficients: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another coefficient than the measured one; may be repeated. --json lists them."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, in plain units (bytes, 1/s).")] = False,
    config: ConfigOption = None,
) -> None:
    """Say how many partitions, workers and Redis masters a load needs, how much memory and disk, and by which arithmetic.

    Nothing is asked of any server: the load is given here, the ladder of panes, the cubes and the dedupe horizon come from the
    settings,
    and what a worker and Redis can do was measured (docs/scaling.md). Campaigns and users are taken to be spread evenly, which
    needs the most memory.

        campaignwatch plan --events-per-second 1000000 --campaigns 50000
        campaignwatch plan --events-per-second 20000 --campaigns 3000 --with-user engagements=0 --values creative_id=20
    """
    settings = load(config)
    wanted = Load(
        events_per_second,
        campaigns,
        users or max(1.0, events_per_second * 86_400 / _EVENTS_OF_A_USER),
        _with_user(with_user),
        campaigns_per_user,
        _mix(mix),
        timed,
        event_bytes,
        reports,
        dict(_values(text, campaigns) for text in values or ()),
    )
    measured = load_coefficients()
    for text in coefficients or ():
        measured = _with(measured, text)
    assumed = Assumptions(headroom, replication, compression, master_memory * _GIB, redis_headroom, partitions, largest_campaign)
    found = plan_for(wanted, settings, assumed, measured)
    typer.echo(as_json(found, measured) if json else as_text(found, measured), nl=json)


def _mix(text: str) -> dict[Topic, float]:
    """Parts by topic, scaled to sum to 1."""
    found = _by_topic("--mix", text)
    total = sum(found.values())
    if total <= 0:
        raise PlanError(f"--mix {text}: all parts are 0; write it like clicks=0.09,conversions=0.01,engagements=0.9")
    return {topic: part / total for topic, part in found.items()}


def _with_user(text: str) -> dict[Topic, float]:
    found = _by_topic("--with-user", text) if "=" in text else dict.fromkeys(EVENTS, _number(f"--with-user {text}", text))
    if max(found.values()) > 1:
        raise PlanError(f"--with-user {text}: a part is from 0 to 1")
    return found


def _by_topic(option: str, text: str) -> dict[Topic, float]:
    found: dict[Topic, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name.strip() not in set(EVENTS):
            raise PlanError(f"{option} {text}: there is no topic {name.strip()!r} of events; there are {', '.join(EVENTS)}")
        found[Topic(name.strip())] = _number(f"{option} {text}", value)
    return found


def _values(text: str, campaigns: int) -> tuple[str, Values]:
    name, _, numbers = text.partition("=")
    if name not in DIMENSIONS or name == "campaign_id":
        raise PlanError(f"--values {text}: there is no dimension {name!r}; there are {', '.join(DIMENSIONS[1:])}")
    each, _, of_all = numbers.partition(":")
    usual = usual_values(campaigns)[name]
    own = max(1.0, _number(f"--values {text}", each))
    together = _number(f"--values {text}", of_all) if of_all else max(own, usual.all * own / usual.per_campaign)
    if together < own:
        raise PlanError(f"--values {text}: all campaigns together cannot have fewer than one has; write {name}=N:ALL with ALL at least N")
    return name, Values(together, own)


def _with(measured: Coefficients, text: str) -> Coefficients:
    """The coefficients with one changed; one that depends on the campaigns becomes the same for all."""
    name, _, value = text.partition("=")
    known = {f.name: getattr(measured, f.name) for f in fields(measured)}
    settable = [each for each, found in known.items() if isinstance(found, float | int | tuple)]
    if name not in settable:
        raise PlanError(f"--set {text}: there is no coefficient {name!r}; there are {', '.join(settable)}")
    given = _number(f"--set {text}", value)
    if given <= 0:
        raise PlanError(f"--set {text}: it must be above 0")
    changed = tuple((at, given) for at, _ in known[name]) if isinstance(known[name], tuple) else given
    replaced: Any = {name: changed}
    return replace(measured, **replaced)


def _number(option: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        raise PlanError(f"{option}: {text!r} is not a number") from None
    if not math.isfinite(found) or found < 0:
        raise PlanError(f"{option}: {text!r} is not a number of 0 or more")
    return found
