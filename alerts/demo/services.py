"""What the demo runs on: embedded broker and Redis, the worker processes, the Slack stand-in. Nothing of it outlives the demo."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from alerts.demo.slack_stand_in import SlackStandIn
from streams.config import ENV_PREFIX, Settings
from streams.embedded import EmbeddedBroker, EmbeddedRedis, Server, ports
from streams.errors import UserError
from streams.simulate.catalogue import RATES, SPEND_SOURCES
from streams.topics import create_topics

#: Seconds that a worker process may take until it is ready.
READY_TIMEOUT = 60.0
#: Seconds for each of the two steps of ending everything: the workers, then what they work on.
_STOP_WORKERS, _STOP_BACKING = 2.0, 1.0
#: The demo's broker wants no login and has no certificate, whatever the caller's own demands.
_OPEN: dict[str, str | None] = {
    "security_protocol": "PLAINTEXT",
    "sasl_username": None,
    "sasl_password": None,  # nosec B105 - taken back, not given
    "ssl_ca_file": None,
    "ssl_cert_file": None,
    "ssl_key_file": None,
}


class DemoError(UserError):
    """The demo cannot go on. The message says what happened and what to do."""


class WorkerProcess(Server):
    """`campaignwatch streams` or `campaignwatch alerts` as a process of its own."""

    stop_timeout = _STOP_WORKERS

    def __init__(self, role: str, port: int, environment: dict[str, str], config: Path | None) -> None:
        super().__init__(port=port)
        self.role = role
        self.name = f"{role} process"
        self._environment = environment
        self._config = config

    def command(self) -> list[str]:
        """The role's own command, with the same Python."""
        config = [] if self._config is None else ["--config", str(self._config.resolve())]
        return [sys.executable, "-m", "alerts.cli", self.role, *config]

    def environment(self) -> dict[str, str]:
        """The demo's settings on top of the caller's environment, in which files of secrets must not stand beside them."""
        kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in self._environment}
        return {**kept, **self._environment}

    def answers(self) -> bool:
        """True at once: readiness is waited for elsewhere, where Ctrl-C is heard."""
        return True

    @property
    def url(self) -> str:
        """Base of its HTTP pages."""
        return f"http://{ports.HOST}:{self.port}"


class Services:
    """Starts everything in order, watches it, and ends it in the opposite order.

    `say` is told in a sentence what was done. `settings` are the caller's; `effective` those that the processes get.
    """

    def __init__(self, settings: Settings, config: Path | None, say: Callable[[str], None]) -> None:
        self._given = settings
        self._config = config
        self._say = say
        self._broker = EmbeddedBroker()
        self._redis = EmbeddedRedis()
        self._broker.stop_timeout = self._redis.stop_timeout = _STOP_BACKING
        #: None where the settings have a real Slack.
        self.slack: SlackStandIn | None = None
        self.effective = settings
        self.streams: WorkerProcess | None = None
        self.alerts: WorkerProcess | None = None
        #: Everything to be ended, and what of it must be running.
        self._servers: list[Server] = [self._broker, self._redis]
        self._watched: list[Server] = []

    async def start_backing(self) -> None:
        """Broker, Redis, topics, and the Slack stand-in unless the settings name a real Slack."""
        for server in (self._broker, self._redis):
            await self._start(server)
        given = self._given.slack
        if given.bot_token is None and given.webhook_url is None:
            self.slack = SlackStandIn(channels=(given.channel,))
            await self.slack.start()
            self._say(f"no Slack is configured: messages go to a stand-in, {self.slack.page_url}")
        self.effective = self._settings()
        await create_topics(self.effective)
        self._say(f"broker on {self._broker.bootstrap_servers}, Redis on {ports.HOST}:{self._redis.port}, topics created")

    async def start_streams(self) -> WorkerProcess:
        """The streams worker; returns when it is ready."""
        self.streams = await self._start_worker("streams", self.effective.streams.http_port)
        return self.streams

    async def start_alerts(self) -> WorkerProcess:
        """The alerts process; returns when it is ready."""
        self.alerts = await self._start_worker("alerts", self.effective.alerts.http_port)
        return self.alerts

    async def watch(self) -> None:
        """Raise DemoError as soon as one of the started processes is gone. Never returns."""
        while True:
            # In the order of starting: what a process needs is looked at before the process.
            for server in self._watched:
                if not server.running:
                    said = f"; its last words:\n{server.log_tail(8)}" if isinstance(server, WorkerProcess) else ""
                    raise DemoError(f"the {server.name} ended while the demo was running, so it cannot go on; start it again{said}")
            await asyncio.sleep(0.25)

    async def close(self) -> None:
        """End everything that was started and remove its files. Takes a few seconds at most."""
        workers = [server for server in self._servers if isinstance(server, WorkerProcess)]
        self._watched.clear()
        await asyncio.gather(*(asyncio.to_thread(server.close) for server in workers))
        if self.slack is not None:
            await self.slack.stop()
        await asyncio.gather(*(asyncio.to_thread(server.close) for server in (self._broker, self._redis)))
        self._servers.clear()

    async def _start(self, server: Server) -> None:
        await asyncio.to_thread(server.start)
        self._watched.append(server)

    async def _start_worker(self, role: str, port: int) -> WorkerProcess:
        worker = WorkerProcess(role, port, self._environment(), self._config)
        self._servers.append(worker)
        await self._start(worker)
        await self._until_ready(worker)
        self._say(f"{worker.name} ready on {worker.url}")
        return worker

    async def _until_ready(self, worker: WorkerProcess) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        last = "no answer"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while True:
                try:
                    async with http.get(f"{worker.url}/readyz") as response:
                        if response.status == 200:
                            return
                        last = await response.text()
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    last = str(error) or type(error).__name__
                if not worker.running:
                    raise DemoError(f"the {worker.name} ended at its start; its last words:\n{worker.log_tail(8)}")
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"the {worker.name} is not ready after {READY_TIMEOUT:.0f} s ({last}); its last words:\n{worker.log_tail(8)}"
                    )
                await asyncio.sleep(0.1)

    def _settings(self) -> Settings:
        """The caller's settings with the demo's own addresses, currencies and ports."""
        given = self._given
        slack = given.slack
        if self.slack is not None:
            slack = slack.model_copy(update={"bot_token": SecretStr(self.slack.token), "api_url": self.slack.api_url})
        return given.model_copy(
            update={
                "kafka": given.kafka.model_copy(
                    update={"bootstrap_servers": self._broker.bootstrap_servers, "replication_factor": 1} | _OPEN
                ),
                "redis": given.redis.model_copy(update={"url": self._redis.url}),
                "money": given.money.model_copy(update={"reporting_currency": "USD", "rates": RATES, "spend_sources": SPEND_SOURCES}),
                "streams": given.streams.model_copy(update={"http_host": ports.HOST, "http_port": self._port("streams")}),
                "alerts": given.alerts.model_copy(update={"http_host": ports.HOST, "http_port": self._port("alerts")}),
                "slack": slack,
            }
        )

    def _port(self, role: str) -> int:
        """The configured port if it is free; another one where nobody asked for this one."""
        section = self._given.streams if role == "streams" else self._given.alerts
        port = section.http_port
        if port and ports.is_free(port):
            return port
        if port and "http_port" in section.model_fields_set:
            raise DemoError(
                f"{role}.http_port: port {port} of {ports.HOST} is already in use; end the process that listens there, "
                f"or set {ENV_PREFIX}{role.upper()}__HTTP_PORT to another port, or to 0 for any free one"
            )
        free = ports.free_port()
        if port:
            self._say(f"port {port} of {ports.HOST} is already in use; the {role} process takes {free} instead")
        return free

    def _environment(self) -> dict[str, str]:
        """The effective settings as environment variables, which win over any file."""
        settings = self.effective
        values = {
            "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
            **{f"KAFKA__{name.upper()}": value or "" for name, value in _OPEN.items()},
            "REDIS__URL": settings.redis.url,
            "STREAMS__HTTP_HOST": settings.streams.http_host,
            "STREAMS__HTTP_PORT": str(settings.streams.http_port),
            "ALERTS__HTTP_HOST": settings.alerts.http_host,
            "ALERTS__HTTP_PORT": str(settings.alerts.http_port),
            "MONEY__REPORTING_CURRENCY": settings.money.reporting_currency,
            "MONEY__RATES": json.dumps({currency: str(rate) for currency, rate in settings.money.rates.items()}),
            "MONEY__SPEND_SOURCES": json.dumps({platform: source.value for platform, source in settings.money.spend_sources.items()}),
        }
        if self.slack is not None:
            values |= {"SLACK__BOT_TOKEN": self.slack.token, "SLACK__API_URL": self.slack.api_url, "SLACK__CHANNEL": settings.slack.channel}
        return {ENV_PREFIX + name: value for name, value in values.items()}
