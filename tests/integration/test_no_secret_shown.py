"""Commands and processes are run with recognisable secrets, into failures of every kind: none of the secrets is ever said."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from streams.config import ENV_PREFIX, Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.embedded.ports import free_port
from tests.integration.processes import started
from tests.integration.test_notify import OPENED, a_change, append
from tests.integration.workers import send, until

pytestmark = pytest.mark.slow
#: Every part that could be shown alone is one word.
SECRETS = {
    "SLACK__BOT_TOKEN": "xoxb-S3CRETbot",
    "SLACK__WEBHOOK_URL": "http://127.0.0.1:1/services/S3CREThook",
    "PRIVACY__USER_KEY": "S3CRETkey",
    "HTTP__TOKEN": "S3CRETtoken-and-more",
    "HTTP__PASSWORD": "S3CRETpassword-and-more",
}
TOLD = re.compile(r"S3CRET\w*")
LOGIN = {"Authorization": f"Bearer {SECRETS['HTTP__TOKEN']}"}


def environment(**variables: str) -> dict[str, str]:
    """The caller's environment, every secret, and `variables` (names without the prefix)."""
    given = {**SECRETS, "LOG_LEVEL": "DEBUG", **variables}
    return {**os.environ, **{ENV_PREFIX + name: value for name, value in given.items()}}


def run(words: list[str], **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "alerts.cli", *words],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    return done.returncode, done.stdout + done.stderr


COMMANDS = [["streams"], ["alerts"], ["kpis", "--cube", "total", "--window", "5m"], ["topics", "create"], ["quarantine", "list"]]
NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        (f"redis://ann:S3CRETredis@{NOWHERE}/0", "away"),
        (f"redis://:S3CRET/redis@{NOWHERE}/0", "malformed"),
        (f"http://:S3CRETredis@{NOWHERE}/0", "no Redis"),
    ],
    ids=["away", "malformed", "scheme"],
)
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_that_cannot_work_does_not_say_why_in_secrets(words: list[str], url: str, what: str) -> None:
    status, said = run(words, REDIS__URL=url, KAFKA__BOOTSTRAP_SERVERS=NOWHERE)
    assert status == 2, f"{what}: {said}"
    assert "Traceback" not in said
    assert TOLD.findall(said) == []


@pytest.mark.parametrize(
    "wrong",
    [{"SLACK": "S3CRETbot"}, {"HTTP__TOKEN": "S3CRET with spaces"}, {"HTTP__PASSWORD": "S3CRET"}, {"KAFKA__PARTITIONS": "S3CRET"}],
    ids=["section", "token", "password", "elsewhere"],
)
def test_a_setting_that_cannot_be_is_not_repeated(wrong: dict[str, str]) -> None:
    status, said = run(["streams"], **wrong)
    assert status == 2
    assert TOLD.findall(said) == []


def ask(url: str, headers: dict[str, str]) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        with error:
            return error.code, f"{error.headers}{error.read().decode()}"


PAGES = (
    "/",
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/api/ledger",
    "/api/campaigns",
    "/api/incidents",
    "/api/kpis",
    "/nowhere",
)


def pages(base: str) -> str:
    """What every page says, to those with the login, with a wrong one and with none."""
    return "\n".join(ask(base + path, login)[1] for path in PAGES for login in (LOGIN, {"Authorization": "Bearer x"}, {}))


_SLACK_FAILS = re.compile(r'campaignwatch_notify_retried_total\{reason="unreachable",sink="slack"\} [1-9]')


def where(settings: Settings, url: str, port: int) -> dict[str, str]:
    return {
        "REDIS__URL": url,
        "REDIS__NAMESPACE": settings.redis.namespace,
        "REDIS__TIMEOUT": "1",
        "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "KAFKA__SESSION_TIMEOUT": "6",
        "STREAMS__HTTP_PORT": str(port),
        "ALERTS__HTTP_PORT": str(port),
        # Everybody could reach it, were it not for the login.
        "STREAMS__HTTP_HOST": "0.0.0.0",
        "ALERTS__HTTP_HOST": "0.0.0.0",
        "SLACK__API_URL": "http://127.0.0.1:1/api/",
        "ALERTS__TICK": "1",
        "ALERTS__LEASE": "2",
    }


@pytest.mark.parametrize(
    ("role", "variables"),
    [("streams", {}), ("alerts", {}), ("alerts", {"SLACK__BOT_TOKEN": ""})],
    ids=["streams", "alerts by bot", "alerts by webhook"],
)
async def test_a_process_tells_no_secret_while_redis_slack_and_its_readers_go_wrong(
    role: str, variables: dict[str, str], ready: Settings, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    base = f"http://127.0.0.1:{port}"
    with EmbeddedRedis() as server:
        url = server.url.replace("redis://", "redis://default:S3CRETredis@")
        with redis.Redis.from_url(server.url) as client:
            client.config_set("requirepass", "S3CRETredis")
        words = [sys.executable, "-m", "alerts.cli", role]
        with started(words, log, cwd=log.parent, env=environment(**where(ready, url, port), **variables)) as process:
            await until(lambda: ask(f"{base}/readyz", {})[0], lambda status: status == 200, timeout=60)
            assert ask(f"{base}/api/ledger", {})[0] == 401
            assert ask(f"{base}/api/ledger", LOGIN)[0] == 200
            shown = await asyncio.to_thread(pages, base)
            await send(ready, Topic.CLICKS, [b"no event", {"event_id": "1", "user_id": "u", "campaign_id": "c"}])
            if role == "alerts":
                async with AsyncRedis.from_url(url) as tables:
                    await append(tables, ready, a_change("i-1", OPENED, 1))
                await until(lambda: ask(f"{base}/metrics", LOGIN)[1], lambda text: _SLACK_FAILS.search(text))
            server.close()
            await until(lambda: ask(f"{base}/api/ledger", LOGIN)[0], lambda status: status == 503)
            await until(lambda: ask(f"{base}/readyz", {})[0], lambda status: status == 503, timeout=90)
            shown += await asyncio.to_thread(pages, base)
            assert process.poll() is None
    said = log.read_text("utf-8", errors="replace")
    assert len(said.splitlines()) > 3
    assert TOLD.findall(said) == []
    assert "campaignwatch_http_refused_total" in shown
    assert TOLD.findall(shown) == []
