"""Slack, by bot token (messages that are updated in place) or by incoming webhook (new messages only).

The transport is slack_sdk's; what to retry is decided here, because its own handlers give up too early. A change that was told
already is not told again: what Slack has is remembered per incident. Three things can repeat one message: a crash between Slack's answer
and remembering it, an answer that is lost after Slack took the message, and a replica that takes over from one that cannot reach Redis to
remember. Looking the message up by its metadata would need a further scope and one call per doubt at a strict rate, so it is not done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import aiohttp
from redis.asyncio import Redis
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from alerts.incidents.change import Change, ChangeKind, Severity
from alerts.notify.sink import Rejected, Retry, SinkFactory
from alerts.notify.slack_blocks import Look, Message, message, metadata, note_of, reply
from alerts.notify.slack_errors import GONE, OF_BLOCKS, refusal
from alerts.notify.slack_memory import SlackMemory, Told
from streams.config import Settings

_log = logging.getLogger(__name__)
# The library writes whole requests, the webhook's secret address among them, to a logger that is not above DEBUG.
_sdk_log = logging.getLogger(f"{__name__}.sdk")
_sdk_log.setLevel(logging.WARNING)

#: chat.update is limited per workspace to 50 calls a minute and more; posts to about one a second and channel.
_UPDATE_FACTOR = 1.2


def slack_sinks(settings: Settings, redis: Redis) -> SinkFactory | None:
    """Makes the Slack sinks that the settings ask for: by token, else by webhook; None without either. They share one memory."""
    memory = SlackMemory(redis, settings.redis.namespace)
    if settings.slack.bot_token is not None and settings.slack.bot_token.get_secret_value().strip():
        return lambda: SlackBot(settings, memory)
    if settings.slack.webhook_url is not None and settings.slack.webhook_url.get_secret_value().strip():
        return lambda: SlackWebhook(settings, memory)
    return None


def _look(settings: Settings) -> Look:
    return Look(settings.money.reporting_currency, settings.alerts.dashboard_url)


class Pacer:
    """Spaces calls: `turn` returns when `interval` seconds have passed since the turn before."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next turn and take it."""
        await asyncio.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._interval


class SlackBot:
    """One message per incident, updated in place; resolutions, reopenings and severity changes are told in its thread too."""

    name = "slack"
    folds = True

    def __init__(self, settings: Settings, memory: SlackMemory) -> None:
        slack = settings.slack
        assert slack.bot_token is not None
        self._look = _look(settings)
        self._channel = slack.channel
        self._memory = memory
        self._posts = Pacer(slack.min_interval)
        self._updates = Pacer(slack.min_interval * _UPDATE_FACTOR)
        self._client = AsyncWebClient(
            slack.bot_token.get_secret_value(), base_url=slack.api_url, timeout=_whole(slack.timeout), logger=_sdk_log, retry_handlers=[]
        )
        if _direct(slack.api_url):
            self._client.proxy = None

    async def check(self) -> str:
        """Whom the token belongs to, `campaignwatch in Acme`. Raises Retry or Rejected."""
        answer = await _api(self._client.auth_test)
        return f"{answer.get('user')} in {answer.get('team')}"

    async def deliver(self, change: Change) -> None:
        """Show the change in the incident's message, new or updated, and reply in its thread where that is due."""
        told = await self._memory.recall(change.incident_id)
        belated = False
        if not told.covers(change):
            before, told = told, await self._show(change, told)
            belated = told.reply == before.reply
            await self._memory.remember(change.incident_id, told)
        if told.seq == change.seq and told.reply:
            answered = replace(told, reply="", broadcast="")
            try:
                await self._reply(change, told)
            except Rejected as rejected:
                if belated or not rejected.fixable:
                    # It was refused for a change before already, or will be for all that come: none is to wait for it any more.
                    await self._memory.remember(change.incident_id, answered)
                raise
            await self._memory.remember(change.incident_id, answered)

    async def close(self) -> None:
        """Store what Redis could not be told yet, if it can be told now. Connections are closed after every call."""
        await self._memory.flush()

    async def _show(self, change: Change, told: Told) -> Told:
        note = note_of(change, told.note)
        content = message(change, self._look, note=note)
        loud = change.change is ChangeKind.REOPENED or (change.severity is Severity.CRITICAL and change.change is not ChangeKind.RESOLVED)
        # A change that needs no reply owes the one that an earlier change did not get posted: that one may have been folded since.
        answer_due, broadcast = told.reply, told.broadcast
        if own := reply(change, self._look, told.severity_before):
            answer_due, broadcast = own, "yes" if loud else ""
        if told.ts:
            try:
                await self._updates.turn()
                await self._send(self._client.chat_update, content, change, channel=told.channel, ts=told.ts)
            except _Gone as gone:
                _log.info("incident %s: its Slack message cannot be updated (%s); posting a new one", change.incident_id, gone)
                told = replace(told, ts="")
        channel, ts = told.channel, told.ts
        if not ts:
            await self._posts.turn()
            answer = await self._send(self._client.chat_postMessage, content, change, channel=self._channel)
            channel, ts = str(answer["channel"]), str(answer["ts"])
            answer_due = broadcast = ""  # A new message says it all.
        return Told(change.seq, change.severity.value, channel, ts, note, answer_due, broadcast, change.at.isoformat())

    async def _reply(self, change: Change, told: Told) -> None:
        await self._posts.turn()
        # An update in place notifies nobody; what needs somebody's attention again is shown in the channel too.
        broadcast: dict[str, Any] = {"reply_broadcast": True} if told.broadcast else {}
        await self._send(
            self._client.chat_postMessage, Message(told.reply, []), change, channel=told.channel, thread_ts=told.ts, **broadcast
        )

    async def _send(
        self, method: Callable[..., Awaitable[AsyncSlackResponse]], content: Message, change: Change, **where: Any
    ) -> AsyncSlackResponse:
        arguments: dict[str, Any] = {**where, "text": content.text, "metadata": metadata(change)}
        if "ts" not in where:
            arguments.update(unfurl_links=False, unfurl_media=False)
        if not content.blocks:
            return await _api(method, **arguments)
        try:
            return await _api(method, **arguments, blocks=content.blocks)
        except Rejected as rejected:
            if rejected.reason not in OF_BLOCKS:
                raise
            _log.error("incident %s: %s; sending it as plain text", change.incident_id, rejected.detail)
            # An empty list, so that an update does not leave the blocks of the version before.
            return await _api(method, **arguments, blocks=[])


class SlackWebhook:
    """Posts opened, reopened and resolved incidents and changes of severity; a webhook cannot update what it posted."""

    name = "slack"
    folds = True

    def __init__(self, settings: Settings, memory: SlackMemory) -> None:
        slack = settings.slack
        assert slack.webhook_url is not None
        url = slack.webhook_url.get_secret_value().strip()
        self._look = _look(settings)
        self._memory = memory
        self._posts = Pacer(slack.min_interval)
        self._client = AsyncWebhookClient(url, timeout=_whole(slack.timeout), logger=_sdk_log, retry_handlers=[])
        if _direct(url):
            self._client.proxy = None

    async def deliver(self, change: Change) -> None:
        """Post the change if it is one that deserves a message."""
        told = await self._memory.recall(change.incident_id)
        if told.covers(change):
            return
        note = note_of(change, told.note)
        before = told.severity_before
        if change.change in (ChangeKind.OPENED, ChangeKind.REOPENED, ChangeKind.RESOLVED) or before not in (None, change.severity):
            await self._posts.turn()
            await self._post(message(change, self._look, note=note), change)
        # A message that a bot posted earlier is left as it is, but not forgotten: the token may come back.
        await self._memory.remember(
            change.incident_id,
            replace(told, seq=change.seq, at=change.at.isoformat(), severity=change.severity.value, note=note, reply="", broadcast=""),
        )

    async def close(self) -> None:
        """Store what Redis could not be told yet, if it can be told now. Connections are closed after every call."""
        await self._memory.flush()

    async def _post(self, content: Message, change: Change) -> None:
        try:
            await self._call(text=content.text, blocks=content.blocks, unfurl_links=False, unfurl_media=False)
        except Rejected as rejected:
            if rejected.reason not in OF_BLOCKS:
                raise
            _log.error("incident %s: %s; sending it as plain text", change.incident_id, rejected.detail)
            await self._call(text=content.text, unfurl_links=False, unfurl_media=False)

    async def _call(self, **body: Any) -> None:
        try:
            answer = await self._client.send(**body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        if answer.status_code != 200 or answer.body.strip() != "ok":
            raise refusal(answer.status_code, _code(answer.body), dict(answer.headers))


class _Gone(Exception):
    """The message to update is not there any more."""


async def _api(method: Callable[..., Awaitable[AsyncSlackResponse]], **arguments: Any) -> AsyncSlackResponse:
    """One call of the Web API. Raises Retry, Rejected or _Gone."""
    try:
        return await method(**arguments)
    except SlackApiError as error:
        response = cast("Any", error.response)
        # For a body that is no JSON the library hands over aiohttp's response instead of its own.
        status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
        data = getattr(response, "data", None)
        code = str(data.get("error") or "") if isinstance(data, dict) else ""
        if code in GONE and "ts" in arguments:
            raise _Gone(code) from error
        found = refusal(status, code, dict(getattr(response, "headers", {})))
        if code and isinstance(found, Rejected) and isinstance(data, dict):
            hints = (data.get("response_metadata") or {}).get("messages") or []
            if hints:
                found = Rejected(found.reason, f"{found.detail} [{'; '.join(map(str, hints))[:500]}]", fixable=found.fixable)
        raise found from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreachable(error) from error
    except AttributeError as error:
        # The library's way of failing on a body of plain text with status 200, such as a proxy's login page.
        raise Rejected(
            "not_slack", "the answer is not Slack's; is slack.api_url right, and does a proxy answer instead?", fixable=True
        ) from error


def _unreachable(error: BaseException) -> Retry | Rejected:
    if isinstance(error, aiohttp.InvalidURL):
        # The text of this error holds the address, which is a secret for webhooks.
        return Rejected("not_slack", "slack.api_url or slack.webhook_url is not a valid address", fixable=True)
    if isinstance(error, TimeoutError):
        return Retry("timeout", "Slack did not answer in time")
    return Retry("unreachable", f"Slack cannot be reached ({type(error).__name__}: {error})")


def _code(body: str) -> str:
    """Slack's code in a webhook's plain-text answer; empty for a page of somebody else's."""
    text = body.strip()
    return text if text and len(text) <= 100 and text.replace("_", "").isalnum() and text.isascii() else ""


def _whole(seconds: float) -> int:
    return max(1, round(seconds))


def _direct(url: str) -> bool:
    """Whether to go around a proxy that the environment names: on this machine, or where NO_PROXY says so (the library ignores it)."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "127.0.0.1", "::1") or bool(proxy_bypass(host))
