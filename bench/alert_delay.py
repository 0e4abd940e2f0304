"""How long after the pane that shows a fault its alert reaches Slack.

    python -m bench.alert_delay                # 60 faults, about ten minutes
    python -m bench.alert_delay --faults 20    # fewer
    python -m bench.alert_delay --quick        # four faults, about a minute, to see that it works

A pair of processes with default settings, and a stand-in for Slack that takes a message a second as Slack does. Campaigns that click very
regularly have a past of 45 minutes, and then a fault each: no clicks any more, eight times as many, clicks that cost a
hundred times as much, a day's budget spent at once. It is certain which pane of 10 s shows each fault; from its end to the
request at the stand-in is what is measured. Beside it stands what the alerts process says in `campaignwatch_notify_delay_seconds`, which
begins with the end of the window that it judged, and so knows nothing of panes that were judged late.

Only clicks come. The partitions of the other topics are idle, as they are where conversions are rare and spend is reported once an hour:
judges wait until such partitions are known to have nothing either.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table

from alerts.demo.slack_stand_in import Posted, SlackStandIn
from bench.faulty_clicks import RULES, STEP_MS, Fault, Kind, clicks, name_of, plan, registry
from bench.figures import Buckets, Latencies
from bench.product import Role
from bench.results import save
from bench.servers import servers, settings_for
from streams.config import Settings, Topic
from streams.producing import Sender
from streams.topics import create_topics

GOAL_P99 = 30.0
#: Minutes of the past that the judges learn from.
_PAST = 45
#: Campaigns without a fault, of which nothing may be told.
_HEALTHY = 8
#: Seconds after the pane that shows the last fault within which it must have been told.
_REST = 90.0


@dataclass(frozen=True, slots=True)
class Told:
    """A fault and when its message came: `delay` s after the pane that shows it; None if it did not."""

    fault: Fault
    delay: float | None


def match(faults: Sequence[Fault], incidents: Sequence[Mapping[str, Any]], arrived: Mapping[str, float]) -> tuple[list[Told], list[str]]:
    """Which fault was told when, and incidents that belong to none. `arrived`: incident id -> epoch s of its first message."""
    by_campaign = {name_of(fault.campaign): fault for fault in faults}
    delays: dict[Fault, float] = {}
    others = []
    for incident in incidents:
        fault = by_campaign.get(incident["key"].get("campaign_id", ""))
        at = arrived.get(incident["incident_id"])
        if fault is None or incident["rule"] != RULES[fault.kind]:
            others.append(f"{incident['rule']} {incident['key']}: {incident.get('explanation', '')}")
        elif at is not None:
            delays[fault] = min(at - fault.shown_at / 1_000, delays.get(fault, float("inf")))
    return [Told(fault, delays.get(fault)) for fault in faults], others


def first_messages(messages: Sequence[Posted]) -> dict[str, float]:
    """Incident id -> epoch s at which the stand-in took its first message."""
    found: dict[str, float] = {}
    for message in messages:
        metadata = message.history[0].metadata
        if metadata is not None and message.thread_ts is None:
            incident = str(metadata["event_payload"]["incident_id"])
            found[incident] = min(float(message.ts), found.get(incident, float("inf")))
    return found


class _Play:
    """Sends what happens, first the past and then the present."""

    def __init__(self, settings: Settings, sender: Sender, campaigns: int) -> None:
        self._topic = settings.topic(Topic.CLICKS)
        self._sender = sender
        self._campaigns = campaigns
        self.position = (_now() - _PAST * 60_000) // STEP_MS * STEP_MS
        self.faults: list[Fault] = []
        self.sent = 0

    async def catch_up(self) -> None:
        """Everything up to the present, a minute at a time."""
        while (end := min(_now() // STEP_MS * STEP_MS, self.position + 60_000)) > self.position:
            self.sent += await self._sender.send(self._topic, clicks(self._campaigns, self.faults, self.position, end))
            self.position = end

    async def follow(self) -> None:
        """The present, step by step, until cancelled."""
        while True:
            await asyncio.sleep((self.position + STEP_MS - _now()) / 1_000)
            await self.catch_up()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _get(url: str) -> Any:
    with urlopen(url, timeout=10.0) as answer:  # nosec B310 # the product's own page
        return json.load(answer)


async def _measure(settings: Settings, count: int, every: float, lead: float) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        slack = SlackStandIn(channels=(settings.slack.channel,))
        await slack.start()
        stack.push_async_callback(slack.stop)
        await create_topics(settings)
        streams = Role("streams", settings)
        stack.callback(streams.close)
        alerts = Role("alerts", settings, {"SLACK__BOT_TOKEN": slack.token, "SLACK__API_URL": slack.api_url})
        stack.callback(alerts.close)
        await asyncio.to_thread(streams.start)
        sender = await stack.enter_async_context(Sender(settings))
        await sender.send(settings.topic(Topic.CAMPAIGNS), registry(count + _HEALTHY, datetime.now(UTC).date()))
        play = _Play(settings, sender, count + _HEALTHY)
        await play.catch_up()
        following = asyncio.create_task(play.follow())
        stack.callback(following.cancel)
        await _applied(streams, settings, play)
        await asyncio.to_thread(alerts.start)

        faults = play.faults = plan(count, _now() + int(lead * 1_000), every)
        end = max(fault.shown_at for fault in faults) / 1_000 + _REST
        while len(first_messages(slack.messages)) < count and time.time() < end and not following.done():
            await asyncio.sleep(0.2)
        if following.done():
            following.result()
        incidents = (await asyncio.to_thread(_get, f"{alerts.url}/api/incidents?state=all&limit=1000"))["incidents"]
        said = await asyncio.to_thread(alerts.histogram, "campaignwatch_notify_delay_seconds", sink="slack")
        assert said is not None
        return _content(*match(faults, incidents, first_messages(slack.messages)), said)


async def _applied(streams: Role, settings: Settings, play: _Play) -> None:
    """Wait until the past has been applied, and the worker follows the present."""
    while True:
        sent = play.sent
        ledger = await asyncio.to_thread(_get, f"{streams.url}/api/ledger")
        if sum(entry["applied"] for entry in ledger["partitions"] if entry["topic"] == settings.topic(Topic.CLICKS)) >= sent:
            return
        await asyncio.sleep(0.2)


def _content(told: Sequence[Told], others: Sequence[str], said: Buckets) -> dict[str, Any]:
    delays = np.array([each.delay for each in told if each.delay is not None], np.float64)
    assert len(delays), "nothing was told at all"
    kinds = {}
    for kind in Kind:
        own = np.array([each.delay for each in told if each.fault.kind is kind and each.delay is not None], np.float64)
        faults = sum(each.fault.kind is kind for each in told)
        kinds[kind.value] = {"faults": faults, "told": len(own), **(_seconds(own) if len(own) else {})}
    found = _seconds(delays)
    return {
        "faults": len(told),
        "told": len(delays),
        "others": list(others),
        "delay_s": found,
        "kinds": kinds,
        "product_says_s": {q: said.named(said.quantile(share), unit=1) for q, share in (("p50", 0.5), ("p99", 0.99))},
        "goal": f"every fault told, p99 below {GOAL_P99:.0f} s",
        "reached": len(delays) == len(told) and not others and found["p99"] < GOAL_P99,
    }


def _seconds(delays: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    ms = Latencies.of(delays)
    return {name: round(getattr(ms, field) / 1_000, 1) for name, field in (("p50", "p50"), ("p99", "p99"), ("highest", "highest"))}


def table(found: Mapping[str, Any]) -> Table:
    """What was found, for people."""
    said = found["product_says_s"]
    shown = Table(
        title="end of the pane that shows a fault -> request at Slack, s",
        caption=f"the alerts process says p50 {said['p50']}, p99 {said['p99']}; "
        f"goal: {found['goal']}: {'reached' if found['reached'] else 'NOT REACHED'}",
    )
    for heading in ("fault", "faults", "told", "p50", "p99", "max"):
        shown.add_column(heading, justify="left" if heading == "fault" else "right")
    for name, row in (*found["kinds"].items(), ("all", {"faults": found["faults"], "told": found["told"], **found["delay_s"]})):
        values = (f"{row[q]:.1f}" if q in row else "" for q in ("p50", "p99", "highest"))
        shown.add_row(name, str(row["faults"]), str(row["told"]), *values)
    return shown


def run(*, quick: bool = False, faults: int = 60, every: float = 8.0) -> dict[str, Any]:
    """Measure with servers of its own, print, and return the content of the section `alert_delay`."""
    with servers() as (kafka, redis), contextlib.closing(asyncio.new_event_loop()) as loop:
        settings = settings_for(kafka, redis, "delay")
        work = _measure(settings, 4, 2.0, 2.0) if quick else _measure(settings, faults, every, 20.0)
        found = loop.run_until_complete(work)
    Console(width=150).print(table(found))
    for other in found["others"]:
        print(f"belongs to no fault: {other}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.alert_delay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=60, help="how many (default %(default)s)")
    parser.add_argument("--every", type=float, default=8.0, help="seconds between them (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a trial of about a minute; nothing is saved")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick, faults=arguments.faults, every=arguments.every)
    if not arguments.quick:
        save("alert_delay", found)


if __name__ == "__main__":
    main()
