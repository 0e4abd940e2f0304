"""A run: servers, processes and traffic; then round after round of faults, catching up and comparing."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from redis.exceptions import RedisError

from streams.config import Alerts, Kafka, Money, Settings, SpendSource, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.kafka import consumer_group
from streams.tables.keys import alerts_key
from streams.tables.reader import TableReader
from streams.topics import create_topics, plan
from tests.chaos.arena import SESSION_TIMEOUT, Arena, Planned
from tests.chaos.breaks import Breaks
from tests.chaos.comparing import Comparer
from tests.chaos.differences import Difference, Verdict
from tests.chaos.expected import Expected
from tests.chaos.faults import Kind, do_faults, plan_round
from tests.chaos.fleet import Fleet
from tests.chaos.log import LogReader, alerts_reader, log_reader, quarantine_reader
from tests.chaos.report import Report, RoundResult
from tests.chaos.servers import Servers
from tests.chaos.traffic import Maker, Traffic

_POLL = 0.2
#: Hostile events a second that are read again at the very least, each of which fills panes of its own.
_READ_AGAIN = 400
#: Spend is not among them: a report that is restated in another partition would count again, as the contract of partitions says.
_GROWING = (Topic.CLICKS, Topic.CONVERSIONS, Topic.ENGAGEMENTS)
_PARTITIONS = 4
#: Seconds that events go on after the last fault: an owner that starts again from what is stored must not trip over what comes meanwhile.
_AFTERWARDS = 4.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes."""

    seed: int
    rounds: int = 100
    workers: int = 2
    replicas: int = 2
    #: Events a second.
    rate: int = 100
    #: Seconds within which a round's faults begin.
    seconds: float = 5.0
    #: Seconds that catching up may take.
    patience: float = 150.0
    #: Words behind `python -m` that start the product.
    launcher: tuple[str, ...] = ("alerts.cli",)


def chaos_settings(servers: Servers, *, direct: bool) -> Settings:
    """The product's settings; `direct` past the proxies, for the harness itself."""
    return Settings(
        kafka=Kafka(
            bootstrap_servers=servers.kafka.bootstrap_servers if direct else servers.kafka.product_servers,
            topic_prefix="chaos",
            partitions=_PARTITIONS,
            replication_factor=servers.kafka.copies,
            session_timeout=SESSION_TIMEOUT,
        ),
        redis=RedisSettings(
            url=servers.redis.url if direct else servers.redis.product_url, namespace="chaos", timeout=2.0, check_interval=5.0
        ),
        streams=Streams(http_port=0, idle_timeout=4.0, lateness=1.0, stuck_after=30.0, open_cells=400_000),
        money=Money(rates={"EUR": Decimal("1.0842")}, spend_sources={"meta": SpendSource.REPORTS}),
        alerts=Alerts(http_port=0, tick=2.0, lease=3.0),
        cubes={"keyword": ("campaign_id", "keyword", "platform")},
        # Budgets are spent and raised again all the time, so that there are incidents to keep.
        rules=[{"name": "budget_exhausted", "update_every": 60, "hold": 10, "group_at": 1_000}],
    )


def write_settings(settings: Settings, path: Path) -> None:
    """The settings' file of the product's processes."""
    content: dict[str, Any] = settings.model_dump(mode="json", exclude={"privacy", "slack"})
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


class Run:
    """One run from start to end; `servers` are running."""

    def __init__(self, servers: Servers, kinds: list[Kind], options: Options, directory: Path, report: Report) -> None:
        self._servers = servers
        self._kinds = kinds
        self._options = options
        self.report = report
        self._settings = chaos_settings(servers, direct=True)
        config = directory / "campaignwatch.yaml"
        write_settings(chaos_settings(servers, direct=False), config)
        self._redis = servers.redis.client()
        self._reader = TableReader(self._redis, self._settings)
        self.fleet = Fleet(
            config, directory / "processes", options.launcher, options.workers, options.replicas, consumer_group(self._settings)
        )
        lease = alerts_key(self._settings.redis.namespace, "lease")
        growing = [self._settings.topic(topic) for topic in _GROWING]
        self._arena = Arena(servers, self.fleet, self._redis, lease, growing, report.kills, report.outcomes)
        self._breaks = Breaks()
        self._expected = Expected(self._settings)
        servers_address = servers.kafka.bootstrap_servers
        self._log: LogReader = log_reader(self._settings, servers_address)
        self._comparer = Comparer(
            self._settings,
            self._redis,
            self._expected,
            quarantine_reader(self._settings, servers_address),
            alerts_reader(self._settings, servers_address),
            options.seed,
        )
        self._traffic = Traffic(self._settings, servers_address, Maker(options.seed), options.rate)

    async def run(self, told: Callable[[RoundResult], None]) -> None:
        """All rounds, or up to the first that fails; `told` of each."""
        try:
            await create_topics(self._settings, plan(self._settings))
            await self.fleet.start()
            await self._until(self._ready, 90.0, "the processes are not ready")
            for number in range(1, self._options.rounds + 1):
                result = await self._round(number)
                self.report.rounds.append(result)
                told(result)
                if not result.good:
                    break
        finally:
            await self._traffic.stop()
            await self.fleet.close()
            self.report.surprises = self.fleet.all_surprises()
            self.report.ended = [words for member in self.fleet.members for words in member.ended]
            self.report.ill = [words for member in self.fleet.members for words in member.was_ill]
            await self._redis.aclose()

    async def _ready(self) -> bool:
        return all([(await asyncio.to_thread(member.page, "/readyz"))[0] == 200 for member in self.fleet.members])

    async def _round(self, number: int) -> RoundResult:
        begun = time.monotonic()
        faults = plan_round(self._options.seed, number, self._kinds, self._options.seconds)
        self.report.faults.update(planned.kind for planned in faults)
        self._traffic.start()
        try:
            await asyncio.gather(do_faults(self._arena, faults), asyncio.sleep(self._options.seconds))
            self._servers.heal()
            self.fleet.back_to_normal()
            await asyncio.to_thread(self._servers.wait_until_whole)
            healed = time.monotonic()
            await asyncio.sleep(_AFTERWARDS)
        finally:
            await self._traffic.stop()
        records = await self._log.more()
        self._expected.take(records)
        self._comparer.ends = self._log.position
        # After Redis was emptied the whole log is read again.
        patience = self._options.patience + sum(self._log.position.values()) / _READ_AGAIN
        behind = await self._catch_up(healed + patience)
        catch_up = time.monotonic() - healed if not behind else None
        verdict = await self._compare(number)
        await self._look_at_leader(verdict)
        verdict.differences[:0] = behind
        result = self._result(number, faults, verdict, catch_up, begun)
        breaks = self._breaks.new_ones(await self._reader.ledger())
        result.breaks, result.unexplained = dict(breaks), self._breaks.unexplained(breaks, faults)
        return result

    async def _compare(self, number: int) -> Verdict:
        try:
            return await self._comparer.compare(number)
        except Exception as error:
            # Tables that are wrong in themselves cannot even be read. Servers are whole by now, so that it is nothing of theirs.
            traceback.print_exc()
            verdict = Verdict()
            verdict.add("the tables", "comparing them", "possible", repr(error))
            return verdict

    def _result(self, number: int, faults: list[Planned], verdict: Verdict, catch_up: float | None, begun: float) -> RoundResult:
        return RoundResult(
            number,
            [str(planned) for planned in faults],
            sum(self._log.position.values()),
            verdict.lost,
            verdict.doubled,
            verdict.differences,
            catch_up,
            verdict.compared,
            time.monotonic() - begun,
        )

    async def _catch_up(self, deadline: float) -> list[Difference]:
        """Wait until Redis and a worker's page say that all is applied; what is behind if that never comes."""
        ends = {(tp.topic, tp.partition): end for tp, end in self._log.position.items() if end}
        while True:
            behind = [
                Difference(f"{source}, {topic}:{partition}", "applied_offset", end - 1, found.get((topic, partition)))
                for source, found in (("Redis", await self._applied()), ("/api/ledger", await self._applied_as_shown()))
                for (topic, partition), end in sorted(ends.items())
                if found.get((topic, partition)) != end - 1
            ]
            if not behind or time.monotonic() > deadline:
                return behind
            await asyncio.sleep(_POLL)

    async def _applied(self) -> dict[tuple[str, int], int]:
        try:
            return {(entry.topic, entry.partition): entry.applied_offset for entry in await self._reader.ledger()}
        except (RedisError, OSError):
            return {}

    async def _applied_as_shown(self) -> dict[tuple[str, int], int]:
        shown = await self.fleet.page("streams", "/api/ledger")
        return {(entry["topic"], entry["partition"]): entry["applied_offset"] for entry in shown["partitions"]} if shown else {}

    async def _look_at_leader(self, verdict: Verdict) -> None:
        """One of the alerts replicas leads."""

        async def led() -> bool:
            token = str(await self._redis.get(self._arena.alerts_lease))
            return any(token.endswith(f":{member.pid}'") for member in self.fleet.of("alerts") if member.running)

        try:
            await self._until(led, 30.0, "nobody leads")
            verdict.add("alerts", "leader", True, True)
        except TimeoutError:
            verdict.add("alerts", "leader", "one of the replicas", await self._redis.get(self._arena.alerts_lease))

    @staticmethod
    async def _until(condition: Callable[[], Awaitable[bool]], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{otherwise} after {seconds:.0f} s")
            await asyncio.sleep(_POLL)
