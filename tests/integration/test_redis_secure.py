"""Redis behind TLS and access lists: what works, and what is said when it does not.

The embedded server has no TLS of its own, so a proxy speaks it in front.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from streams.config import Redis as RedisSettings
from streams.config import Settings
from streams.embedded import EmbeddedRedis
from streams.preflight import PreflightError, check_redis
from tests.integration.processes import run, running, settings_file
from tests.integration.proxies import Proxy
from tests.integration.test_workers import Clicks
from tests.integration.workers import get, until, worker

PASSWORD = "c0rrect-horse@/:"
_DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def documented_rules(namespace: str) -> list[str]:
    """The words of the ACL SETUSER command in the operations guide, for a namespace."""
    found = re.search(r"^ACL SETUSER monitor (.+?)^```", _DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return [word.replace("~cw", f"~{namespace}", 1).replace("PASSWORD", PASSWORD) for word in found[1].replace("\\\n", " ").split()]


def documented_rules_of_a_cluster() -> list[str]:
    """What the operations guide adds to them on a cluster."""
    found = re.search(r"On a cluster add `([^`]+)`", _DOCUMENT.read_text(encoding="utf-8"))
    assert found is not None
    return found[1].split()


@dataclass(frozen=True)
class Secure:
    """A server that only lets in who shows a certificate of `ca` and logs in."""

    server: EmbeddedRedis
    proxy: Proxy
    files: Path

    def redis(self, namespace: str, **changes: Any) -> RedisSettings:
        """Settings with which everything is right, but for `changes`."""
        right: dict[str, Any] = {
            "url": f"rediss://localhost:{self.proxy.port}/0",
            "namespace": namespace,
            "username": "monitor",
            "password": PASSWORD,
            "ca_file": self.files / "ca.pem",
            "cert_file": self.files / "client.pem",
            "key_file": self.files / "client.key",
        }
        return RedisSettings(**{**right, **changes})


@pytest.fixture
def secure(settings: Settings, tmp_path: Path) -> Iterator[Secure]:
    ca, other = trustme.CA(), trustme.CA()
    shown, mine = ca.issue_cert("localhost"), ca.issue_cert("campaignwatch")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    mine.private_key_pem.write_to_path(tmp_path / "client.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with EmbeddedRedis() as server, Proxy(server.port, tls=context) as proxy:
        with redis.Redis(port=server.port) as client:
            client.execute_command("ACL SETUSER", "monitor", *documented_rules(settings.redis.namespace))
            client.execute_command("ACL SETUSER", "default", "off")
        yield Secure(server, proxy, tmp_path)


def test_every_command_of_a_script_is_among_the_documented_rights() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("streams", "alerts")
        for path in (_DOCUMENT.parents[1] / room).rglob("*")
        if path.suffix in (".py", ".lua")
    ]
    used = {name.lower() for source in sources for name in re.findall(r"redis\.p?call\(['\"](\w+)", source)}
    assert len(used) > 10
    assert used <= {word.removeprefix("+") for word in documented_rules("cw")}


async def test_all_processes_run_with_the_documented_rights_over_tls(
    ready: Settings, secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = secure.redis(ready.redis.namespace)
    monkeypatch.setenv("CAMPAIGNWATCH_REDIS__PASSWORD", PASSWORD)
    # The file has everything but the password.
    settings = ready.model_copy(update={"redis": section.model_copy(update={"password": None})})
    clicks = Clicks(settings)
    log = tmp_path / "alerts.log"
    with worker(settings, tmp_path) as one, running(settings_file(tmp_path, settings), log, "alerts"):
        await clicks.send(300)
        await clicks.all_counted_once(one.url)
        said = await until(lambda: re.search(r"pages on (http://[0-9.]+:\d+)", log.read_text()), timeout=60)
        assert said is not None
        await until(lambda: get(f"{said[1]}/readyz")[1]["details"]["leader"])
        await until(lambda: get(f"{said[1]}/api/incidents")[0] == 200)
        shown = run(one.config, "kpis", "--cube", "total", "--window", "1d", "--json")
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["rows"][0]["clicks"] == clicks.different
        for text in (one.said(), log.read_text(), shown.stdout, shown.stderr):
            assert PASSWORD not in text
            assert "NOPERM" not in text


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"password": "wrong"}, r"refuses the login .*set redis\.username and redis\.password"),
        ({"username": None, "password": None}, r"refuses the login .*set redis\.username and redis\.password"),
        ({"ca_file": None}, r"no known CA vouches for .*set redis\.ca_file"),
        ({"cert_file": None, "key_file": None}, r"asks for a client certificate.*set redis\.cert_file and redis\.key_file"),
        ({"namespace": "elsewhere"}, r"lets user monitor in but not do all it must .*docs/operations\.md"),
    ],
    ids=["password", "login", "ca", "certificate", "rights"],
)
async def test_what_is_wrong_is_said_with_the_next_step(
    settings: Settings, secure: Secure, changes: Mapping[str, Any], advice: str
) -> None:
    right = secure.redis(settings.redis.namespace)
    await check_redis(settings.model_copy(update={"redis": right}))
    with pytest.raises(PreflightError, match=advice) as refused:
        await check_redis(settings.model_copy(update={"redis": secure.redis(**{"namespace": settings.redis.namespace, **changes})}))
    assert PASSWORD not in str(refused.value)


async def test_a_certificate_of_another_ca_or_for_another_host_is_refused(settings: Settings, secure: Secure) -> None:
    def at(**changes: Any) -> Settings:
        return settings.model_copy(update={"redis": secure.redis(settings.redis.namespace, **changes)})

    with pytest.raises(PreflightError, match=r"no known CA vouches for .*set redis\.ca_file"):
        await check_redis(at(ca_file=secure.files / "other.pem"))
    by_address = f"rediss://127.0.0.1:{secure.proxy.port}/0"
    with pytest.raises(PreflightError, match=r"certificate for another host name .*redis\.check_hostname"):
        await check_redis(at(url=by_address))
    await check_redis(at(url=by_address, check_hostname=False))
    with pytest.raises(PreflightError, match=r"does not answer in TLS .*write redis://"):
        await check_redis(at(url=f"rediss://localhost:{secure.server.port}/0"))
