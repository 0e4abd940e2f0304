"""The connections to the pages: how many at a time, and for how long without a request."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

from streams.config import Http
from streams.metrics.http import HttpMetrics

#: What holds for the connections to an application, for whoever serves it.
CONNECTIONS = web.AppKey("connections", tuple[Http, HttpMetrics])


class BoundedRunner(web.AppRunner):
    """Serves an application to at most `http.max_connections`; further ones are closed without a word.

    A connection whose next request is not there in full within `http.idle_timeout` is closed too, however slowly it may be coming.
    """

    __slots__ = ("_limits", "_metrics")

    def __init__(self, app: web.Application, **options: Any) -> None:
        self._limits: Http
        self._metrics: HttpMetrics | None
        self._limits, self._metrics = app.get(CONNECTIONS, (Http(), None))
        super().__init__(app, keepalive_timeout=self._limits.idle_timeout, **options)

    @property
    def server(self) -> web.Server | None:
        """What makes the protocol of each connection: aiohttp's, within the limit."""
        server = super().server
        if server is None:
            return None
        if self._metrics is not None:
            self._metrics.connections.set_function(lambda: len(server.connections))

        def protocol() -> asyncio.Protocol:
            if len(server.connections) < self._limits.max_connections:
                return server()
            if self._metrics is not None:
                self._metrics.refused.labels("connections").inc()
            return _Closed()

        # All that a site does with it is to call it.
        return cast(web.Server, protocol)


class _Closed(asyncio.Protocol):
    """A connection that is not wanted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it at once."""
        cast(asyncio.Transport, transport).abort()
