"""A stand-in for Slack on this machine: the demo posts to it when no Slack is configured, and the tests hold delivery against it.

It answers auth.test, chat.postMessage, chat.update and an incoming webhook as Slack does (token, channel, Block Kit limits, rate limits,
errors with HTTP 200), keeps every message, and can be told to misbehave in the ways that Slack and the network do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from aiohttp import web

from alerts.demo.block_kit import MAX_ALL_TEXT, all_text, problems

HOST = "127.0.0.1"
_MAX_TEXT = 40_000
_MAX_METADATA = 8_000
_HOOK = "/services/T0STANDIN/B0STANDIN/stand-in-secret"
Json = dict[str, Any]


@dataclass(slots=True)
class Version:
    """What a message said at one time."""

    text: str
    blocks: list[Json]
    metadata: Json | None


@dataclass(slots=True)
class Posted:
    """A message as the channel holds it. `history` has every version, the present one last."""

    ts: str
    channel: str
    via: str
    """`api` or `webhook`."""
    thread_ts: str | None
    broadcast: bool
    history: list[Version]

    @property
    def text(self) -> str:
        """The present text."""
        return self.history[-1].text

    @property
    def blocks(self) -> list[Json]:
        """The present blocks."""
        return self.history[-1].blocks

    @property
    def metadata(self) -> Json | None:
        """The present metadata."""
        return self.history[-1].metadata

    @property
    def updates(self) -> int:
        """How many times it was updated in place."""
        return len(self.history) - 1


@dataclass(slots=True)
class Faults:
    """What goes wrong. Counters go down with each request that they hit; -1 means until it is set to 0."""

    down: bool = False
    """Connections are closed without an answer. (`refuse` and `accept` take the port away and give it back.)"""
    server_errors: int = 0
    """Requests answered with `server_status` and a page that is no JSON."""
    server_status: int = 500
    rate_limited: int = 0
    """Requests answered 429, with `retry_after` seconds."""
    retry_after: int = 1
    lost_answers: int = 0
    """Requests that take effect, but whose connection is closed instead of answered."""
    errors: int = 0
    """Requests refused with `error`."""
    replies_refused: int = 0
    """Replies in a thread refused with `error`."""
    error: str = "internal_error"
    delay: float = 0.0
    """Seconds before anything is done with a request."""
    late_answers: float = 0.0
    """Seconds between what a request does and the answer to it."""

    def take(self, name: str) -> bool:
        """Whether the counter `name` hits this request; counts it down."""
        left = int(getattr(self, name))
        if left > 0:
            setattr(self, name, left - 1)
        return left != 0


@dataclass(slots=True)
class Call:
    """One request, whatever became of it."""

    at: float
    """Monotonic seconds."""
    method: str
    """`chat.postMessage`, `chat.update`, `auth.test`, `webhook`."""
    status: int
    """HTTP status; 0 where the connection was closed instead."""
    error: str
    """Slack's error code; empty for success."""


class _Bucket:
    """A rate limit: `rate` a second, and `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._left, self._at = float(burst), time.monotonic()

    def wait(self) -> float:
        """0 and one taken, or the seconds until there will be one."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class _Refusal(Exception):
    def __init__(self, code: str, *, messages: Sequence[str] = (), status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.code, self.messages, self.status, self.headers = code, list(messages), status, headers or {}


class SlackStandIn:
    """The stand-in. `start`, point slack.api_url or slack.webhook_url at it, read `messages`, `stop`.

    `rate` and `burst`: posts per second and channel (Slack: about 1, with some allowance). `update_rate`: chat.update per second.
    """

    def __init__(
        self,
        *,
        token: str = "xoxb-stand-in",
        channels: Sequence[str] = ("#campaign-alerts",),
        rate: float = 1.0,
        burst: int = 5,
        update_rate: float = 50 / 60,
        port: int = 0,
    ) -> None:
        self.token = token
        self.channels = {name.lstrip("#"): f"C{i:010d}" for i, name in enumerate(channels, start=1)}
        self.messages: list[Posted] = []
        self.calls: list[Call] = []
        self.faults = Faults()
        self.webhook_enabled = True
        self._rate, self._burst, self._update_rate = rate, burst, update_rate
        self._buckets: dict[str, _Bucket] = {}
        self._port = port
        self._last_ts = 0
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def api_url(self) -> str:
        """For slack.api_url."""
        return f"http://{HOST}:{self._port}/api/"

    @property
    def webhook_url(self) -> str:
        """For slack.webhook_url; posts to the first channel."""
        return f"http://{HOST}:{self._port}{_HOOK}"

    @property
    def page_url(self) -> str:
        """All messages as JSON, for people and scripts."""
        return f"http://{HOST}:{self._port}/messages"

    async def start(self) -> None:
        """Listen on a loopback port."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        for method, answer in (("auth.test", self._auth_test), ("chat.postMessage", self._post), ("chat.update", self._update)):
            app.router.add_post(f"/api/{method}", self._api(method, answer))
        app.router.add_post("/api/{method}", self._api("unknown", self._unknown))
        app.router.add_post("/services/{tail:.*}", self._webhook)
        app.router.add_get("/messages", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await self.accept()

    async def stop(self) -> None:
        """End it; what was posted stays readable."""
        runner, self._runner, self._site = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    async def refuse(self) -> None:
        """Take the port away: connections are refused until `accept`."""
        site, self._site = self._site, None
        if site is not None:
            await site.stop()

    async def accept(self) -> None:
        """Listen (again), on the same port as before."""
        if self._runner is None:
            raise RuntimeError("the stand-in is not started; call start() first")
        if self._site is None:
            self._site = web.TCPSite(self._runner, HOST, self._port, reuse_address=True)
            await self._site.start()
            self._port = int(self._runner.addresses[0][1])

    def top_level(self) -> list[Posted]:
        """The messages that are no thread replies."""
        return [m for m in self.messages if m.thread_ts is None]

    def thread(self, ts: str) -> list[Posted]:
        """The replies to a message."""
        return [m for m in self.messages if m.thread_ts == ts]

    def _api(self, method: str, answer: Callable[[Json], Json]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                await self._misbehave(request, method)
                body = await _body(request)
                self._check_token(request, body)
                if self.faults.take("errors"):
                    raise _Refusal(self.faults.error)
                content = answer(body)
            except _Refusal as refusal:
                self._record(method, refusal.status, refusal.code)
                if refusal.status >= 500:
                    return web.Response(status=refusal.status, text="<html>Server Error</html>", content_type="text/html")
                failed: Json = {"ok": False, "error": refusal.code}
                if refusal.messages:
                    failed["errors"] = refusal.messages
                    failed["response_metadata"] = {"messages": [f"[ERROR] {m}" for m in refusal.messages]}
                return web.json_response(failed, status=refusal.status, headers=refusal.headers)
            return await self._answered(request, method, web.json_response({"ok": True, **content}))

        return handle

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        try:
            await self._misbehave(request, "webhook")
            if self.faults.take("errors"):
                raise _Refusal(self.faults.error, status=400)
            if request.path != _HOOK or not self.webhook_enabled:
                raise _Refusal("no_service", status=404)
            try:
                body = await _body(request)
            except _Refusal as refusal:
                raise _Refusal("invalid_payload", status=400) from refusal
            try:
                version = _version(body)
            except _Refusal as refusal:
                raise _Refusal(refusal.code, status=400) from refusal
            channel = next(iter(self.channels.values()))
            self._limit(f"post:{channel}", self._rate, self._burst)
            self._keep(Posted(self._ts(), channel, "webhook", None, False, [version]))
        except _Refusal as refusal:
            self._record("webhook", refusal.status, refusal.code)
            return web.Response(status=refusal.status, text=refusal.code, headers=refusal.headers)
        return await self._answered(request, "webhook", web.Response(text="ok", content_type="text/html"))

    async def _misbehave(self, request: web.Request, method: str) -> None:
        if self.faults.delay:
            await asyncio.sleep(self.faults.delay)
        if self.faults.down:
            self._record(method, 0, "down")
            _hang_up(request)
        if self.faults.take("server_errors"):
            raise _Refusal("server_error", status=self.faults.server_status)
        if self.faults.take("rate_limited"):
            raise _Refusal("ratelimited", status=429, headers={"Retry-After": str(self.faults.retry_after)})

    async def _answered(self, request: web.Request, method: str, response: web.Response) -> web.Response:
        if self.faults.late_answers:
            await asyncio.sleep(self.faults.late_answers)
        if self.faults.take("lost_answers"):
            self._record(method, 0, "lost")
            _hang_up(request)
        self._record(method, 200, "")
        return response

    def _record(self, method: str, status: int, error: str) -> None:
        self.calls.append(Call(time.monotonic(), method, status, error))

    def _check_token(self, request: web.Request, body: Json) -> None:
        authorization = request.headers.get("Authorization", "")
        token = authorization.removeprefix("Bearer ") if authorization.startswith("Bearer ") else None
        if token is None and request.content_type != "application/json":
            token = body.get("token")
        if not token:
            raise _Refusal("not_authed")
        if token != self.token:
            raise _Refusal("invalid_auth")

    def _limit(self, name: str, rate: float, burst: int) -> None:
        wait = self._buckets.setdefault(name, _Bucket(rate, burst)).wait()
        if wait:
            raise _Refusal("ratelimited", status=429, headers={"Retry-After": str(max(1, round(wait + 0.5)))})

    def _auth_test(self, body: Json) -> Json:
        return {
            "url": "https://stand-in.slack.com/",
            "team": "Stand-in",
            "user": "campaignwatch",
            "team_id": "T0STANDIN",
            "user_id": "U0STANDIN",
            "bot_id": "B0STANDIN",
        }

    def _unknown(self, body: Json) -> Json:
        raise _Refusal("unknown_method")

    def _post(self, body: Json) -> Json:
        channel = self._channel(body.get("channel"), by_name=True)
        version = _version(body)
        thread_ts = body.get("thread_ts")
        if thread_ts is not None and self._find(channel, thread_ts) is None:
            raise _Refusal("thread_not_found")
        if thread_ts is not None and self.faults.take("replies_refused"):
            raise _Refusal(self.faults.error)
        self._limit(f"post:{channel}", self._rate, self._burst)
        posted = Posted(self._ts(), channel, "api", thread_ts, bool(thread_ts and body.get("reply_broadcast")), [version])
        self._keep(posted)
        return {"channel": channel, "ts": posted.ts, "message": _as_message(posted)}

    def _update(self, body: Json) -> Json:
        # Slack takes names here no more than it does ids of other channels.
        channel = self._channel(body.get("channel"), by_name=False)
        version = _version(body)
        posted = self._find(channel, body.get("ts"))
        if posted is None:
            raise _Refusal("message_not_found")
        if posted.via != "api":
            raise _Refusal("cant_update_message")
        self._limit("update", self._update_rate, max(self._burst, 10))
        posted.history.append(version)
        return {"channel": channel, "ts": posted.ts, "text": posted.text, "message": _as_message(posted)}

    def _channel(self, named: Any, *, by_name: bool) -> str:
        if named in self.channels.values():
            return str(named)
        found = self.channels.get(str(named).lstrip("#")) if by_name else None
        if found is None:
            raise _Refusal("channel_not_found")
        return found

    def _find(self, channel: str, ts: Any) -> Posted | None:
        return next((m for m in self.messages if m.channel == channel and m.ts == ts), None)

    def _keep(self, posted: Posted) -> None:
        self.messages.append(posted)

    def _ts(self) -> str:
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    async def _page(self, request: web.Request) -> web.Response:
        return web.json_response({"messages": [{**_as_message(m), "channel": m.channel, "updates": m.updates} for m in self.messages]})


def _version(body: Json) -> Version:
    """The content of a message, checked in the order in which Slack complains."""
    text, blocks, metadata = body.get("text") or "", body.get("blocks") or [], body.get("metadata")
    if not isinstance(text, str):
        raise _Refusal("invalid_arguments")
    if not text and not blocks and not body.get("attachments"):
        raise _Refusal("no_text")
    if blocks and not isinstance(blocks, list):
        raise _Refusal("invalid_blocks_format")
    found = problems(blocks)
    if found:
        raise _Refusal("invalid_blocks", messages=found)
    if all_text(blocks) > MAX_ALL_TEXT:
        raise _Refusal("msg_blocks_too_long")
    if metadata is not None:
        valid = (
            isinstance(metadata, dict) and isinstance(metadata.get("event_type"), str) and isinstance(metadata.get("event_payload"), dict)
        )
        if not valid:
            raise _Refusal("invalid_metadata_format")
        if len(json.dumps(metadata)) > _MAX_METADATA:
            raise _Refusal("metadata_too_large")
    return Version(text[:_MAX_TEXT], blocks, metadata)


async def _body(request: web.Request) -> Json:
    """A JSON or form body, as slack_sdk and curl send them. In a form the structured values are JSON in a string."""
    if request.content_type == "application/json":
        try:
            content = json.loads(await request.text())
        except (ValueError, LookupError) as error:
            raise _Refusal("invalid_json") from error
        if not isinstance(content, dict):
            raise _Refusal("json_not_object")
        return content
    if request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        if request.path.startswith("/services/") and "payload" in form:
            payload: Json = _parsed(form["payload"], "invalid_payload", dict)
            return payload
        body: Json = dict(form)
        for name, code, shape in (("blocks", "invalid_blocks_format", list), ("metadata", "invalid_metadata_format", dict)):
            if name in body:
                body[name] = _parsed(body[name], code, shape)
        return body
    if not request.can_read_body:
        return {}
    raise _Refusal("invalid_post_type")


def _parsed(text: str, code: str, shape: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _Refusal(code) from error
    if not isinstance(value, shape):
        raise _Refusal(code)
    return value


def _as_message(posted: Posted) -> Json:
    shown: Json = {"type": "message", "ts": posted.ts, "text": posted.text, "blocks": posted.blocks}
    if posted.metadata is not None:
        shown["metadata"] = posted.metadata
    if posted.thread_ts is not None:
        shown["thread_ts"] = posted.thread_ts
    return shown


def _hang_up(request: web.Request) -> None:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError


def main(port: int = typer.Option(8090, help="Port on this machine; 0 picks a free one.")) -> None:
    """Run the stand-in until Ctrl-C, to rehearse with."""

    async def run() -> None:
        stand_in = SlackStandIn(port=port)
        await stand_in.start()
        typer.echo(f"CAMPAIGNWATCH_SLACK__API_URL={stand_in.api_url}")
        typer.echo(f"CAMPAIGNWATCH_SLACK__BOT_TOKEN={stand_in.token}")
        typer.echo(f"or CAMPAIGNWATCH_SLACK__WEBHOOK_URL={stand_in.webhook_url}")
        typer.echo(f"messages: {stand_in.page_url}")
        try:
            await asyncio.Event().wait()
        finally:
            await stand_in.stop()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


if __name__ == "__main__":
    typer.run(main)
