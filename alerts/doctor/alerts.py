"""What is to be said of the alerts process: who leads, whether messages wait, who is told. Asking and judging (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from alerts.app.lease import fence_key, lease_key
from alerts.incidents.store import IncidentStore
from alerts.notify.delivery import configured_sinks
from alerts.notify.outbox import Outbox, cursor_key
from streams.config import Settings
from streams.doctor.finding import Finding, Unanswered, asked, failure, names, ok, span, warning

#: Seconds that a change may wait for its receiver.
_PATIENCE = 300
#: Part of the outbox that may be full.
_FILLING = 0.8
#: Entries of the outbox that are read to count what waits.
_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class SinkLook:
    """One receiver: whether it ever got anything, what waits for it (up to _COUNTED), and how long the oldest has waited, s."""

    known: bool
    waiting: int
    oldest: float


@dataclass(frozen=True, slots=True)
class AlertsLook:
    """What the alerts process keeps in Redis."""

    #: Name of the replica that leads, None while none does; how long its lease still lasts, s, None where that may not be asked.
    leader: str | None
    left: float | None
    #: Whether a replica has ever led.
    ever: bool
    outbox: int
    sinks: Mapping[str, SinkLook]
    open_incidents: int


async def look_at_alerts(settings: Settings, redis: Redis, now: float, seconds: float) -> AlertsLook | Unanswered:
    """The alerts process' keys; `now` is Redis' time, epoch s."""
    return await asked(_look(settings, redis, now), seconds)


async def _look(settings: Settings, redis: Redis, now: float) -> AlertsLook:
    client: Any = redis
    namespace = settings.redis.namespace
    held = await client.get(lease_key(namespace))
    try:
        left: float | None = max(0, await client.pttl(lease_key(namespace))) / 1000
    except NoPermissionError:
        left = None
    outbox, store = Outbox(redis, namespace), IncidentStore(redis, settings)
    sinks = {}
    for sink in configured_sinks(settings, redis):
        entries = await outbox.read(await outbox.cursor(sink), _COUNTED)
        oldest = max(0.0, now - entries[0].written_at) if entries else 0.0
        sinks[sink] = SinkLook(bool(await client.get(cursor_key(namespace, sink))), len(entries), oldest)
    return AlertsLook(
        # The token is a number, a colon and the replica's name.
        held.decode().partition(":")[2] if held else None,
        left,
        await client.get(fence_key(namespace)) is not None,
        await store.outbox_length(),
        sinks,
        sum(incident.is_open for incident in await store.load()),
    )


def judge_alerts(settings: Settings, look: AlertsLook) -> Iterator[Finding]:
    """Findings on the lease, the outbox and the receivers."""
    yield _lease(settings, look)
    yield _outbox(settings, look)
    for name, sink in look.sinks.items():
        yield _sink(name, sink)
    yield ok("incidents", f"{look.open_incidents} open")


def judge_receivers(settings: Settings, sinks: Mapping[str, object]) -> Finding:
    """Whether people are told, by the settings; `sinks` by name."""
    if "slack" not in sinks:
        return warning(
            "receivers",
            f"Slack is not set: incidents are on /api/incidents and on the topic only ({names(sinks)})",
            "set CAMPAIGNWATCH_SLACK__BOT_TOKEN and slack.channel, or CAMPAIGNWATCH_SLACK__WEBHOOK_URL",
        )
    return ok("receivers", names(sinks))


def _lease(settings: Settings, look: AlertsLook) -> Finding:
    if look.leader is None:
        since = "none ever did here" if not look.ever else "the last lease ran out or was given back"
        return failure(
            "alerts lease",
            f"no alerts process leads ({since}): nobody judges the tables",
            f"start one: `campaignwatch alerts`; if one runs, it leads within {settings.alerts.lease:g} s or its log says why not",
        )
    left = "" if look.left is None else f", for another {look.left:.1f} s unless renewed"
    return ok("alerts lease", f"held by {look.leader}{left}")


def _outbox(settings: Settings, look: AlertsLook) -> Finding:
    limit = settings.alerts.outbox_length
    detail = f"{look.outbox:,} changes of at most {limit:,} (those delivered stay for an hour)"
    if look.outbox >= limit:
        return failure(
            "outbox", f"{detail}: the oldest are dropped", "see which receiver does not take its messages; raise alerts.outbox_length"
        )
    if look.outbox >= _FILLING * limit:
        return warning("outbox", detail, "see which receiver does not take its messages; raise alerts.outbox_length")
    return ok("outbox", detail)


def _sink(name: str, sink: SinkLook) -> Finding:
    what = f"messages to {name}"
    if not sink.waiting:
        return ok(what, "none wait" if sink.known else "none wait, and none was ever sent")
    count = f"{sink.waiting:,}{' or more' if sink.waiting >= _COUNTED else ''}"
    detail = f"{count} wait, the oldest for {span(sink.oldest)}"
    if sink.oldest > _PATIENCE:
        return failure(
            what, detail, 'see "Messages wait" in docs/operations.md: is an alerts process running, and what does its log say of it?'
        )
    return ok(what, detail)
