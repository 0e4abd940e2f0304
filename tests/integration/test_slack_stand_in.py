"""The stand-in answers as Slack does, to slack_sdk and to plain HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from alerts.demo.slack_stand_in import SlackStandIn

HEADER = {"type": "header", "text": {"type": "plain_text", "text": "Clicks below expected"}}


@pytest.fixture
async def stand_in() -> AsyncIterator[SlackStandIn]:
    slack = SlackStandIn(burst=3)
    await slack.start()
    yield slack
    await slack.stop()


@pytest.fixture
def client(stand_in: SlackStandIn) -> AsyncWebClient:
    made = AsyncWebClient(stand_in.token, base_url=stand_in.api_url, timeout=5, retry_handlers=[])
    made.proxy = None
    return made


@pytest.fixture
def webhook(stand_in: SlackStandIn) -> AsyncWebhookClient:
    made = AsyncWebhookClient(stand_in.webhook_url, timeout=5, retry_handlers=[])
    made.proxy = None
    return made


async def refused(call: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SlackApiError) as caught:
        await call
    return caught.value.response.status_code, caught.value.response.data


async def test_it_knows_its_token(stand_in: SlackStandIn, client: AsyncWebClient) -> None:
    assert (await client.auth_test())["user"] == "campaignwatch"
    client.token = "xoxb-wrong"
    assert await refused(client.auth_test()) == (200, {"ok": False, "error": "invalid_auth"})
    client.token = None
    assert await refused(client.chat_postMessage(channel="#campaign-alerts", text="x")) == (200, {"ok": False, "error": "not_authed"})
    assert stand_in.messages == []


async def test_messages_updates_and_threads_are_kept(stand_in: SlackStandIn, client: AsyncWebClient) -> None:
    metadata = {"event_type": "campaignwatch_incident", "event_payload": {"incident_id": "i-1", "seq": 1}}
    posted = await client.chat_postMessage(channel="#campaign-alerts", text="opened", blocks=[HEADER], metadata=metadata)
    assert posted["channel"] == "C0000000001"
    await client.chat_update(channel=posted["channel"], ts=posted["ts"], text="resolved", blocks=[HEADER])
    await client.chat_postMessage(channel=posted["channel"], thread_ts=posted["ts"], text="Resolved after 2 min", reply_broadcast=True)

    (message,) = stand_in.top_level()
    assert [version.text for version in message.history] == ["opened", "resolved"]
    assert message.history[0].metadata == metadata
    assert message.blocks == [HEADER]
    (reply,) = stand_in.thread(posted["ts"])
    assert (reply.text, reply.broadcast) == ("Resolved after 2 min", True)
    async with aiohttp.ClientSession() as http, http.get(stand_in.page_url) as page:
        shown = await page.json()
    assert [(m["text"], m["updates"]) for m in shown["messages"]] == [("resolved", 1), ("Resolved after 2 min", 0)]


async def test_form_bodies_are_understood(stand_in: SlackStandIn) -> None:
    form = {"token": stand_in.token, "channel": "campaign-alerts", "text": "by form", "blocks": json.dumps([HEADER])}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{stand_in.api_url}chat.postMessage", data=form) as answer:
            assert (await answer.json())["ok"] is True
        async with http.post(f"{stand_in.api_url}chat.postMessage", data={**form, "blocks": "{"}) as answer:
            assert await answer.json() == {"ok": False, "error": "invalid_blocks_format"}
        async with http.post(stand_in.webhook_url, data={"payload": '{"text": "by form, hooked"}'}) as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
    assert [m.text for m in stand_in.messages] == ["by form", "by form, hooked"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"channel": "#nowhere", "text": "x"}, "channel_not_found"),
        ({"channel": "#campaign-alerts"}, "no_text"),
        ({"channel": "#campaign-alerts", "text": "x", "thread_ts": "1.000001"}, "thread_not_found"),
        ({"channel": "#campaign-alerts", "text": "x", "metadata": {"event_type": 1}}, "invalid_metadata_format"),
    ],
)
@pytest.mark.filterwarnings("ignore:The top-level `text` argument is missing")
async def test_refusals_come_with_status_200(client: AsyncWebClient, body: dict[str, Any], error: str) -> None:
    assert await refused(client.chat_postMessage(**body)) == (200, {"ok": False, "error": error})


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (
            {"type": "header", "text": {"type": "plain_text", "text": "x" * 151}},
            "must be less than 151 characters [json-pointer:/blocks/0/text/text]",
        ),
        ({"type": "header", "text": {"type": "mrkdwn", "text": "x"}}, "must be one of plain_text [json-pointer:/blocks/0/text/type]"),
        (
            {"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}},
            "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
        ),
        ({"type": "section", "text": {"type": "mrkdwn", "text": ""}}, "must be more than 0 characters [json-pointer:/blocks/0/text/text]"),
        (
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11},
            "no more than 10 items allowed [json-pointer:/blocks/0/fields]",
        ),
        ({"type": "section"}, "missing required field: text [json-pointer:/blocks/0]"),
        ({"type": "headline"}, "unsupported type: headline [json-pointer:/blocks/0/type]"),
    ],
)
async def test_block_kit_limits_are_kept(client: AsyncWebClient, block: dict[str, Any], complaint: str) -> None:
    status, data = await refused(client.chat_postMessage(channel="#campaign-alerts", text="x", blocks=[block]))
    assert (status, data["error"]) == (200, "invalid_blocks")
    assert data["response_metadata"]["messages"] == [f"[ERROR] {complaint}"]


async def test_all_blocks_together_are_limited(client: AsyncWebClient) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 2_900}}] * 5
    assert (await refused(client.chat_postMessage(channel="#campaign-alerts", text="x", blocks=blocks)))[1][
        "error"
    ] == "msg_blocks_too_long"
    too_many = [{"type": "divider"}] * 51
    assert (await refused(client.chat_postMessage(channel="#campaign-alerts", text="x", blocks=too_many)))[1]["error"] == "invalid_blocks"


async def test_updates_need_the_channels_id_and_an_existing_message(stand_in: SlackStandIn, client: AsyncWebClient) -> None:
    posted = await client.chat_postMessage(channel="#campaign-alerts", text="x")
    by_name = client.chat_update(channel="#campaign-alerts", ts=posted["ts"], text="y")
    assert (await refused(by_name))[1]["error"] == "channel_not_found"
    elsewhere = client.chat_update(channel=posted["channel"], ts="1.000001", text="y")
    assert (await refused(elsewhere))[1]["error"] == "message_not_found"
    assert stand_in.messages[0].updates == 0


async def test_a_burst_is_allowed_and_then_slowed_down(stand_in: SlackStandIn, client: AsyncWebClient) -> None:
    for i in range(3):
        await client.chat_postMessage(channel="#campaign-alerts", text=str(i))
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="#campaign-alerts", text="one too many")
    assert caught.value.response.status_code == 429
    assert caught.value.response.data == {"ok": False, "error": "ratelimited"}
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert [m.text for m in stand_in.messages] == ["0", "1", "2"]


async def test_the_webhook_answers_in_plain_text(stand_in: SlackStandIn, webhook: AsyncWebhookClient) -> None:
    answer = await webhook.send(text="opened", blocks=[HEADER])
    assert (answer.status_code, answer.body) == (200, "ok")
    assert (stand_in.messages[0].via, stand_in.messages[0].blocks) == ("webhook", [HEADER])
    answer = await webhook.send(blocks=[{"type": "header"}])
    assert (answer.status_code, answer.body) == (400, "invalid_blocks")
    async with aiohttp.ClientSession() as http:
        async with http.post(stand_in.webhook_url, data="{", headers={"Content-Type": "application/json"}) as broken:
            assert (broken.status, await broken.text()) == (400, "invalid_payload")
        async with http.post(stand_in.webhook_url + "x", json={"text": "x"}) as unknown:
            assert (unknown.status, await unknown.text()) == (404, "no_service")


async def test_faults_are_those_of_slack_and_the_network(stand_in: SlackStandIn, client: AsyncWebClient) -> None:
    def post() -> Any:
        return client.chat_postMessage(channel="#campaign-alerts", text="x")

    stand_in.faults.server_errors, stand_in.faults.server_status = 1, 502
    assert (await refused(post()))[0] == 502
    stand_in.faults.rate_limited, stand_in.faults.retry_after = 1, 9
    with pytest.raises(SlackApiError) as caught:
        await post()
    assert caught.value.response.headers["Retry-After"] == "9"
    stand_in.faults.errors, stand_in.faults.error = 1, "is_archived"
    assert (await refused(post()))[1]["error"] == "is_archived"
    assert stand_in.messages == []

    stand_in.faults.down = True
    with pytest.raises(aiohttp.ClientError):
        await post()
    stand_in.faults.down = False
    await stand_in.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await post()
    await stand_in.accept()
    assert stand_in.messages == []

    stand_in.faults.lost_answers = 1
    with pytest.raises(aiohttp.ClientError):
        await post()
    assert len(stand_in.messages) == 1
    await post()
    assert len(stand_in.messages) == 2

    stand_in.faults.delay = 5
    client.timeout = 1
    with pytest.raises(TimeoutError):
        await post()
    assert [(c.method, c.status) for c in stand_in.calls if c.status != 200] == [
        ("chat.postMessage", 502),
        ("chat.postMessage", 429),
        ("chat.postMessage", 0),
        ("chat.postMessage", 0),
    ]
