"""The demo from start to end: services, history, the live part with its faults, the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np

from alerts.demo.report import Incident, Outcome, fault_of, is_open
from alerts.demo.screen import clock, picture
from alerts.demo.services import DemoError, Services
from alerts.demo.story import Pages, Story, View
from streams.api.access import authorization
from streams.api.times import read_time
from streams.config import Topic
from streams.simulate.faults import FAULT_ORDER, Fault, plan_faults
from streams.simulate.history import Playback
from streams.simulate.producer import EventProducer
from streams.simulate.traffic import Traffic
from streams.simulate.world import World

#: Seconds between two looks at the pages.
_LOOK_EVERY = 0.5
#: The worker is abreast of the producer when it is at most this many seconds of events behind, and the watermark this many ms.
_ABREAST, _FRESH_MS = 3, 30_000
#: Seconds without any progress of the worker after which the demo gives up.
_STUCK_AFTER = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. Times in seconds."""

    seed: int
    world: World
    rng: np.random.Generator
    duration: float
    history: float
    picture: Path | None = None


def now_ms() -> int:
    """The real time, epoch ms."""
    return time.time_ns() // 1_000_000


class Demo:
    """One run. `story` and `view` are kept up to date while it runs; `services` are started and must be closed by the caller."""

    def __init__(self, plan: Plan, services: Services, story: Story, view: View) -> None:
        self._plan = plan
        self._services = services
        self._story = story
        self._view = view
        self._announced: set[Fault] = set()
        self._ended: set[Fault] = set()
        self._last_change: dict[str, str] = {}
        self._messages = 0
        self._most_open = 0

    async def run(self) -> Outcome:
        """Everything up to the verdict. Raises UserError, such as DemoError, when it cannot go on."""
        started_at = now_ms()
        story, services, plan = self._story, self._services, self._plan
        async with AsyncExitStack() as stack:
            story.phase = "starting"
            self._view.update(now_ms())
            await services.start_backing()
            story.slack = services.slack
            return await _guarded(self._run(started_at, stack, plan), services.watch())

    async def _run(self, started_at: int, stack: AsyncExitStack, plan: Plan) -> Outcome:
        story, services = self._story, self._services
        login = authorization(services.effective.http)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), headers=login))
        pages = Pages(story, http)
        story.urls["streams"] = (await services.start_streams()).url
        producer = await stack.enter_async_context(EventProducer(services.effective, plan.world))
        await producer.register(datetime.now(UTC).date())

        history_from = (now_ms() // 1000 - int(plan.history)) // 60 * 60
        traffic = Traffic(plan.world, plan.rng, history_from, run=f"{plan.seed:x}-{history_from:x}")
        playback = Playback(traffic, producer, history_from * 1000, now_ms)
        story.phase = "playing the past"
        seconds = now_ms() // 1000 - history_from
        story.to_play = int(seconds * plan.world.events_per_second(history_from, history_from + seconds))
        looking = asyncio.create_task(self._keep_looking(pages))
        stack.callback(looking.cancel)
        began = time.monotonic()
        await _guarded(playback.catch_up(self._played), _as_guard(looking))
        following = asyncio.create_task(playback.follow())
        stack.callback(following.cancel)
        await self._caught_up(lambda: sum(producer.produced.values()) - int(_ABREAST * plan.world.rate), fresh=True)
        catch_up_rate = story.read / (time.monotonic() - began)
        self._view.say(f"history is in: {story.read:,} events in {time.monotonic() - began:.0f} s; starting the alerts process")
        story.urls["alerts"] = (await services.start_alerts()).url

        live_at = story.live_at = (now_ms() // 1000 + 1) * 1000
        story.ends_at = playback.end = live_at + int(plan.duration * 1000)
        self._announce_faults(traffic, live_at)
        story.phase = "live"
        read_at_start = story.read
        await _guarded(following, _as_guard(looking))
        sent = sum(producer.produced.values())
        await self._caught_up(lambda: sent)
        looking.cancel()
        await pages.look(now_ms())
        ledger = await self._final(pages, "streams", "/api/ledger")
        incidents = (await self._final(pages, "alerts", "/api/incidents?state=all"))["incidents"]
        self._tell_incidents(incidents)
        return Outcome(
            settings=services.effective,
            seed=plan.seed,
            started_at=started_at,
            live_at=live_at,
            ended_at=now_ms(),
            produced={topic: producer.produced[topic] for topic in (*_SENT, Topic.CAMPAIGNS)},
            ledger=ledger,
            faults=story.faults,
            incidents=sorted(incidents, key=lambda i: read_time(i["opened_at"])),
            events_per_second=(sum(e["in"] for e in ledger["partitions"]) - read_at_start) / plan.duration,
            catch_up_rate=catch_up_rate,
            slack_messages=None if services.slack is None else len(services.slack.messages),
        )

    def _announce_faults(self, traffic: Traffic, live_at: int) -> None:
        story, plan = self._story, self._plan
        story.faults = plan_faults(plan.world, live_at, plan.duration)
        traffic.inject(story.faults)
        self._view.say(f"live for {plan.duration:.0f} s, until {clock(live_at + int(plan.duration * 1000))}")
        if len(story.faults) < len(FAULT_ORDER):
            left_out = ", ".join(kind.value for kind in FAULT_ORDER[len(story.faults) :])
            self._view.say(f"this is too short for all faults: {left_out} left out (--duration 7m has room for all four)")

    def _played(self, total: int) -> None:
        self._story.played = total

    async def _keep_looking(self, pages: Pages) -> None:
        while True:
            now = now_ms()
            if self._story.live_at is None:
                await pages.look_at_ledger(now)
            else:
                await pages.look(now)
            self._tell_faults(now)
            self._tell_incidents(self._story.incidents)
            self._tell_messages()
            self._view.update(now)
            self._take_picture(now)
            await asyncio.sleep(_LOOK_EVERY)

    async def _caught_up(self, target: Callable[[], int], fresh: bool = False) -> None:
        """Wait until the ledger holds `target` records; `fresh`: and until the watermark is near the present."""
        story = self._story
        last: tuple[int, int | None] = (-1, None)
        since = time.monotonic()
        while story.read < target() or (fresh and not self._is_fresh()):
            if last != (story.read, story.watermark()):
                last, since = (story.read, story.watermark()), time.monotonic()
            elif time.monotonic() - since > _STUCK_AFTER:
                assert self._services.streams is not None
                raise DemoError(
                    f"the streams process has not applied anything for {_STUCK_AFTER:.0f} s: {story.read:,} of {target():,} records are in "
                    f"the ledger; its last words:\n{self._services.streams.log_tail(8)}"
                )
            await asyncio.sleep(0.1)

    def _is_fresh(self) -> bool:
        mark = self._story.watermark()
        return mark is not None and now_ms() - mark < _FRESH_MS

    async def _final(self, pages: Pages, role: str, path: str) -> dict[str, Any]:
        try:
            return await pages.get(role, path)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DemoError(f"the {role} process does not answer {path} at the end ({error or type(error).__name__})") from error

    # -- what is told once ---------------------------------------------------------------------------------------------------

    def _tell_faults(self, now: int) -> None:
        for fault in self._story.faults:
            if fault.start <= now and fault not in self._announced:
                self._announced.add(fault)
                self._view.say(f"fault begins: {fault.kind} at {fault.campaign_id}, until {clock(fault.end)}")
            if fault.end <= now and fault not in self._ended:
                self._ended.add(fault)
                self._view.say(f"fault ends: {fault.kind} at {fault.campaign_id}")

    def _tell_incidents(self, incidents: list[dict[str, Any]]) -> None:
        for incident in incidents:
            known = self._last_change.get(incident["incident_id"])
            state = "open" if is_open(incident) else "resolved"
            if known == state:
                continue
            self._last_change[incident["incident_id"]] = state
            if known is None:
                self._view.say(f"incident opened: {self._described(incident)}")
            if state == "resolved" or known is not None:
                self._view.say(f"incident {'resolved' if state == 'resolved' else 'reopened'}: {incident['rule']} {_where(incident)}")

    def _described(self, incident: Incident) -> str:
        fault = fault_of(incident, self._story.faults)
        if fault is None:
            belongs = "it belongs to no fault"
        else:
            belongs = f"{fault.kind}, {(read_time(incident['opened_at']) - fault.start) / 1000:.0f} s after its start"
        return f"{incident['rule']} {_where(incident)} ({belongs}): {incident.get('explanation', '')}"

    def _tell_messages(self) -> None:
        slack = self._story.slack
        if slack is not None:
            for message in slack.messages[self._messages :]:
                self._view.say(f"Slack: {message.text.splitlines()[0] if message.text else '(no text)'}")
            self._messages = len(slack.messages)

    def _take_picture(self, now: int) -> None:
        """Keep the moment with the most open incidents."""
        opened = sum(map(is_open, self._story.incidents))
        if self._plan.picture is not None and opened >= max(1, self._most_open):
            self._most_open = opened
            self._plan.picture.write_text(picture(self._story, now), encoding="utf-8")


#: Topics that the producer sends to.
_SENT = (Topic.CLICKS, Topic.CONVERSIONS, Topic.ENGAGEMENTS, Topic.SPEND)


def _where(incident: Mapping[str, Any]) -> str:
    name = incident.get("name")
    return " ".join(str(value) for value in incident["key"].values()) + (f" {name}" if name else "")


async def _guarded(work: Coroutine[Any, Any, T] | asyncio.Task[T], guard: Coroutine[Any, Any, None]) -> T:
    """Do `work` while `guard` lasts: what the guard raises ends the work and is raised.

    Work that fails is given the time of a look of the guard's: a service that is gone explains what failed for want of it.
    """
    working = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    guarding = asyncio.create_task(guard)
    try:
        await asyncio.wait({working, guarding}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and not working.cancelled() and working.exception() is not None:
            await asyncio.wait({guarding}, timeout=_LOOK_EVERY)
        if guarding.done() and not (working.done() and working.exception() is None):
            guarding.result()
        return await working
    finally:
        for task in (working, guarding):
            task.cancel()
        await asyncio.gather(working, guarding, return_exceptions=True)


async def _as_guard(task: asyncio.Task[None]) -> None:
    """A running task as a guard, which goes on when the guard is no longer needed."""
    await asyncio.shield(task)
