"""The web application that the streams and the alerts process both serve: thin handlers around the declared pages."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from streams.api.access import Access
from streams.api.campaigns import campaigns_content
from streams.api.connections import CONNECTIONS, BoundedRunner
from streams.api.encoding import encode
from streams.api.gate import ACCESS, TRUSTED, as_json, encoded, gate, problem, set_headers
from streams.api.health import Health
from streams.api.incidents import Incidents
from streams.api.kept_answers import KeptAnswers
from streams.api.kpis import KpiQuery, SeriesQuery, answer, series
from streams.api.ledger import ledger_content
from streams.api.openapi import VERSION, document
from streams.api.pages import pages
from streams.api.query import BadQuery, Parameter, read_parameters
from streams.api.span import span_of
from streams.config import Settings
from streams.errors import UserError
from streams.metrics.http import HttpMetrics
from streams.tables.reader import TableReader
from streams.tables.windows import TableError

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that requests in flight may take when the process stops.
_STOP_SECONDS = 1.0
#: Bytes of a request's first line: conditions on several dimensions, each of hundreds of characters and written with % signs.
_LONGEST_LINE = 64 * 1024


class Metrics(Protocol):
    """Renders a process' metrics."""

    async def __call__(self, accept: str, /) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that the Accept header prefers."""
        ...


class Run(Protocol):
    """Runs what the pages ask the tables."""

    async def __call__(self, work: Coroutine[Any, Any, T], /) -> T:
        """What it comes to."""
        ...


async def _here(work: Coroutine[Any, Any, T], /) -> T:
    return await work


Probe = Callable[[], Awaitable[Health]]
Values = dict[str, Any]
Handler = Callable[[Values, web.Request], Awaitable[web.StreamResponse]]


def build_app(
    settings: Settings,
    reader: TableReader,
    *,
    clock: Callable[[], int],
    metrics: Metrics,
    health: Probe,
    incidents: Incidents | None = None,
    registry: CollectorRegistry | None = None,
    run: Run = _here,
) -> web.Application:
    """The application of one process.

    `clock` gives epoch ms; `health` is asked at every probe and must be cheap; without `incidents` their page is a 404.
    Refused requests are counted in `registry`. Who may read the pages is said by `settings.http`. What `reader` and `incidents` are to do
    goes through `run`, which may do it on another loop.
    """

    async def ask(query: KpiQuery) -> bytes:
        return encode((await answer(query, reader, settings, clock())).content())

    kept: KeptAnswers[KpiQuery] = KeptAnswers(lambda query: run(ask(query)), settings.http.kept_answers)
    handlers = _Handlers(settings, reader, kept, clock, metrics, health, incidents, run)
    by_path: Mapping[str, Handler] = {
        "/": handlers.index,
        "/api/kpis": handlers.kpis,
        "/api/kpis/series": handlers.series,
        "/api/ledger": handlers.ledger,
        "/api/campaigns": handlers.campaigns,
        "/api/incidents": handlers.incidents,
        "/metrics": handlers.metrics,
        "/healthz": handlers.healthz,
        "/readyz": handlers.readyz,
        "/openapi.json": handlers.openapi,
    }
    access = Access(settings.http)
    counted = HttpMetrics(registry or CollectorRegistry())
    counted.cache_bytes.set_function(lambda: reader.held_bytes)
    counted.kept_answers.set_function(lambda: len(kept))
    app = web.Application(middlewares=[gate(access, settings.http.max_requests, counted), _problems_as_json])
    app[ACCESS] = access
    app[CONNECTIONS] = (settings.http, counted)
    app.on_response_prepare.append(set_headers)
    app.cleanup_ctx.append(_renewing(kept))
    for page in pages(settings):
        if page.path != "/api/incidents" or incidents is not None:
            app.router.add_get(page.path, _with_parameters(page.parameters, by_path[page.path]))
    return app


@dataclass(frozen=True, slots=True)
class _Handlers:
    settings: Settings
    reader: TableReader
    kept: KeptAnswers[KpiQuery]
    clock: Callable[[], int]
    render: Metrics
    probe: Probe
    source: Incidents | None
    run: Run

    async def index(self, _: Values, __: web.Request) -> web.Response:
        return as_json({"name": "Campaignwatch", "version": VERSION, "pages": {page.path: page.summary for page in pages(self.settings)}})

    async def kpis(self, values: Values, _: web.Request) -> web.Response:
        query = KpiQuery(
            cube=values["cube"],
            span=span_of(values["from"], values["to"], values["window"]),
            sort=values["sort"],
            limit=values["limit"],
            offset=values["offset"],
            where=values["where"],
            columns=values["columns"],
        )
        found, age = await self.kept.get(query, values["max_age"] / 1000)
        return encoded(found, headers={"Age": str(int(age))} if values["max_age"] else None)

    async def series(self, values: Values, _: web.Request) -> web.Response:
        span = span_of(values["from"], values["to"], values["window"])
        query = SeriesQuery(values["cube"], span, values["step"], values["measure"], values["where"])
        return as_json((await self.run(series(query, self.reader, self.settings, self.clock()))).content())

    async def ledger(self, _: Values, __: web.Request) -> web.Response:
        return as_json(ledger_content(await self.run(self.reader.ledger())))

    async def campaigns(self, values: Values, _: web.Request) -> web.Response:
        return as_json(campaigns_content(await self.run(self.reader.campaigns()), values["where"], values["limit"], values["offset"]))

    async def incidents(self, values: Values, _: web.Request) -> web.Response:
        assert self.source is not None
        found = await self.run(self.source(None if values["state"] == "all" else values["state"]))
        return as_json({"total": len(found), "incidents": found[values["offset"] :][: values["limit"]]})

    async def metrics(self, _: Values, request: web.Request) -> web.Response:
        body, content_type = await self.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(self, _: Values, request: web.Request) -> web.Response:
        health = await self._health(request)
        return as_json(health.content(health.alive, "failing"), 200 if health.alive else 503)

    async def readyz(self, _: Values, request: web.Request) -> web.Response:
        health = await self._health(request)
        good = health.alive and health.ready
        return as_json(health.content(good, "not ready"), 200 if good else 503)

    async def _health(self, request: web.Request) -> Health:
        """Probes need no login; to those without one it says the verdict alone."""
        health = await self.probe()
        return health if request[TRUSTED] else replace(health, details={})

    async def openapi(self, _: Values, __: web.Request) -> web.Response:
        return as_json(document(self.settings))


def _renewing(kept: KeptAnswers[KpiQuery]) -> Callable[[web.Application], AsyncIterator[None]]:
    """Has answers renewed as long as the application runs."""

    async def renewing(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(kept.run(), name="renewing answers about KPIs")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return renewing


def _with_parameters(declared: tuple[Parameter, ...], handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(read_parameters(declared, request.query.items()), request)

    return handle


@web.middleware
async def _problems_as_json(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadQuery as error:
        return problem(400, error.error, error.hint)
    except TableError as error:
        return problem(400, str(error))
    except (RedisError, OSError) as error:
        logger.warning("%s cannot be answered, Redis does not: %s", request.path, error)
        return problem(503, "Redis, where the tables are kept, does not answer", "try again; /readyz says when this process is ready")
    except web.HTTPNotFound:
        paths = sorted(resource.canonical for resource in request.app.router.resources())
        return problem(404, f"there is no page {request.path}", f"there are: {', '.join(paths)}")
    except web.HTTPMethodNotAllowed as error:
        allow = {"Allow": ", ".join(sorted(error.allowed_methods))}
        return problem(405, f"{request.method} is not possible here", "every page is read with GET", allow)
    except web.HTTPException as error:
        return problem(error.status, error.reason)
    except Exception:
        logger.exception("%s failed", request.path_qs)
        return problem(500, "this page failed for a reason of its own", "the log of the process has the details")


class CannotServe(UserError):
    """The pages cannot be served at this address; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class Server:
    """Pages being served. `port` is the real one when 0 was asked for."""

    host: str
    port: int
    _runner: web.AppRunner

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8081`."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def stop(self) -> None:
        """Close the port; requests in flight get a second."""
        await self._runner.cleanup()


async def serve(app: web.Application, host: str, port: int) -> Server:
    """Serve `app` on host and port (0: a free one) in the running loop.

    Raises CannotServe when the address cannot be had, OpenToAll when the pages would be open to the network without a login.
    """
    if ACCESS in app:
        app[ACCESS].check_exposure(host)
    runner = BoundedRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS, max_line_size=_LONGEST_LINE)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        why = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        advice = "set streams.http_port or alerts.http_port to another port, or to 0 for any free one"
        raise CannotServe(f"the HTTP pages cannot be served on {host}:{port}: {why}; {advice}") from error
    return Server(host, runner.addresses[0][1], runner)
