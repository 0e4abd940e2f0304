"""The gate before the pages: the login, the number of requests at a time, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from streams.api.access import Access
from streams.api.encoding import encode
from streams.api.pages import ALWAYS_ANSWERED, WITHOUT_LOGIN
from streams.metrics.http import HttpMetrics

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The access of an application, for whoever binds it to an address.
ACCESS = web.AppKey("access", Access)
#: On a request: whether it may see everything. Pages without a login say less to others.
TRUSTED = web.RequestKey("trusted", bool)

#: Pages are data and never run, are framed by nobody and are kept by no cache on the way.
_HEADERS = {
    "Server": "Campaignwatch",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def gate(access: Access, limit: int, metrics: HttpMetrics) -> Any:
    """The middleware that lets a request in, or answers 401 or 503. At most `limit` requests are answered at a time."""
    inside = 0

    @web.middleware
    async def enter(request: web.Request, handler: Answer) -> web.StreamResponse:
        nonlocal inside
        shown = request.headers.get("Authorization")
        request[TRUSTED] = access.allows(shown)
        if not request[TRUSTED] and request.path not in WITHOUT_LOGIN:
            metrics.refused.labels("no_login" if shown is None else "wrong_login").inc()
            return _login_needed(access, shown is not None)
        if request.path in ALWAYS_ANSWERED:
            return await handler(request)
        if inside >= limit:
            metrics.refused.labels("busy").inc()
            hint = "ask again in a second; http.max_requests is the limit"
            return problem(503, f"{limit} requests are being answered, and no more are at a time", hint, {"Retry-After": "1"})
        inside += 1
        metrics.in_progress.set(inside)
        try:
            return await handler(request)
        finally:
            inside -= 1
            metrics.in_progress.set(inside)

    return enter


async def set_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Signal on every answer before it is sent."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def _login_needed(access: Access, wrong: bool) -> web.Response:
    response = problem(401, "the login is wrong" if wrong else "this page needs a login", access.hint())
    for challenge in access.challenges():
        response.headers.add("WWW-Authenticate", challenge)
    return response


def as_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in JSON."""
    return encoded(encode(content), status, headers)


def encoded(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer that is JSON already."""
    fixed = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return web.Response(body=body, status=status, headers={**fixed, **(headers or {})})


def problem(status: int, error: str, hint: str | None = None, headers: Mapping[str, str] | None = None) -> web.Response:
    """What is wrong, and what to do instead."""
    # What was asked may hold half a character (a lone surrogate), which no JSON can carry.
    content = {"error": error} if hint is None else {"error": error, "hint": hint}
    return as_json({key: value.encode("utf-8", "replace").decode("utf-8") for key, value in content.items()}, status, headers)
