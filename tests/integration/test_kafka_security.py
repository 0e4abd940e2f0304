"""Brokers that demand TLS, a login or a certificate: everything works over them, and every wrong thing is said in a sentence."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as form
from pydantic import SecretStr

from alerts.incidents.change import Change, ChangeKind, Expected, Severity, WindowOf
from alerts.notify.kafka import KafkaSink
from alerts.notify.sink import Rejected
from streams.config import INPUT_TOPICS, Kafka, Redis, Settings, Streams, Topic
from streams.embedded import ApacheKafka, EmbeddedRedis, Security
from streams.embedded.apache_security import Protocol
from streams.kafka import consumer_group
from streams.preflight import PreflightError, check_group, check_kafka
from streams.topics import TopicsError, create_topics
from tests.integration.processes import run, settings_file
from tests.integration.workers import applied, records, send, worker

pytestmark = pytest.mark.apache

USER, STRANGER, PASSWORD = "campaignwatch", "stranger", "never-show-this-9f2c"


@dataclass(frozen=True)
class Secured:
    """A broker with secure listeners, and the files to speak to it."""

    broker: ApacheKafka
    directory: Path

    def kafka(self, protocol: Protocol, **changes: Any) -> Kafka:
        """The settings that fit the listener of `protocol`."""
        fitting: dict[str, Any] = {
            "bootstrap_servers": self.broker.secure_servers(protocol),
            "security_protocol": protocol,
            "topic_prefix": "t-secure",
            "session_timeout": 6.0,
        }
        if "SASL" in protocol:
            fitting |= {"sasl_username": USER, "sasl_password": PASSWORD, "sasl_mechanism": "SCRAM-SHA-256"}
        if "SSL" in protocol:
            fitting["ssl_ca_file"] = self.directory / "ca.pem"
        if protocol == "SSL":
            fitting |= {"ssl_cert_file": self.directory / "client.pem", "ssl_key_file": self.directory / "client.pem"}
        return Kafka.model_validate({**fitting, **changes})


def for_java(certificate: trustme.LeafCert) -> bytes:
    """Key and chain in PEM; Java takes a key in no form but PKCS#8."""
    key = form.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return pem + b"".join(part.bytes() for part in certificate.cert_chain_pems)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("certificates")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    other.cert_pem.write_to_path(directory / "other-ca.pem")
    (directory / "server.pem").write_bytes(for_java(authority.issue_cert("127.0.0.1")))
    authority.issue_cert("client", common_name="client").private_key_and_cert_chain_pem.write_to_path(directory / "client.pem")
    other.issue_cert("client", common_name="client").private_key_and_cert_chain_pem.write_to_path(directory / "other-client.pem")
    security = Security(
        users={USER: PASSWORD, STRANGER: PASSWORD},
        server_file=directory / "server.pem",
        authority_file=directory / "ca.pem",
        certificate_subject="client",
    )
    with ApacheKafka(security=security, properties={"ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/"}) as broker:
        yield Secured(broker, directory)


@pytest.fixture
def make(redis_server: EmbeddedRedis) -> Callable[[Kafka], Settings]:
    """Settings with that section, and a prefix and a namespace for this test alone."""
    unique = f"t-{uuid.uuid4().hex[:8]}"

    def made(kafka: Kafka) -> Settings:
        return Settings(
            kafka=kafka.model_copy(update={"topic_prefix": unique, "partitions": 2}),
            redis=Redis(url=redis_server.url, namespace=unique),
            streams=Streams(http_port=0),
        )

    return made


def click(number: int) -> dict[str, object]:
    return {
        "event_id": f"e-{number}",
        "occurred_at": datetime.now(UTC).isoformat(),
        "campaign_id": f"c-{number % 3}",
        "channel": "search",
        "cost": "0.01",
    }


def example_change() -> Change:
    now = datetime.now(UTC)
    return Change(
        incident_id="i-1",
        change=ChangeKind.OPENED,
        seq=1,
        at=now,
        rule="spend_burst",
        severity=Severity.WARNING,
        cube="campaign",
        key={"campaign_id": "c-1"},
        observed=2.0,
        expected=Expected(low=0.0, mid=1.0, high=1.5),
        window=WindowOf.model_validate({"from": now, "to": now}),
        explanation="More than usual.",
        offsets={},
        opened_at=now,
    )


LOGINS = [
    ("SASL_PLAINTEXT", "PLAIN"),
    ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    ("SASL_SSL", "PLAIN"),
    ("SASL_SSL", "SCRAM-SHA-256"),
    ("SASL_SSL", "SCRAM-SHA-512"),
]


@pytest.mark.parametrize(("protocol", "mechanism"), LOGINS, ids=lambda value: value)
async def test_every_login_gets_in(secured: Secured, make: Callable[[Kafka], Settings], protocol: Protocol, mechanism: str) -> None:
    settings = make(secured.kafka(protocol, sasl_mechanism=mechanism))
    assert all(outcome.created for outcome in await create_topics(settings))
    assert (await check_kafka(settings))[Topic.CLICKS] == 2


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SSL"])
async def test_everything_works_over_it_and_the_password_is_in_no_output(
    secured: Secured, make: Callable[[Kafka], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    settings = make(secured.kafka(protocol))
    if protocol == "SASL_SSL":
        monkeypatch.setenv("CAMPAIGNWATCH_KAFKA__SASL_PASSWORD", PASSWORD)
    monkeypatch.setenv("CAMPAIGNWATCH_LOG_LEVEL", "DEBUG")
    config = settings_file(tmp_path, settings)
    created = run(config, "topics", "create")
    assert created.returncode == 0, created.stderr

    with worker(settings, tmp_path) as one:
        await send(settings, Topic.CLICKS, [*(click(number) for number in range(200)), b"no event"])
        found = await applied(one.url, 201)
        assert (found.total("applied"), found.total("quarantined")) == (200, 1)
        assert len(await records(settings, Topic.QUARANTINE, 1)) == 1
        assert one.stop() == 0
        listed = run(config, "quarantine", "list")
        assert listed.returncode == 0 and "1 refused records" in listed.stdout, listed.stderr
        outputs = [one.said(), created.stdout, created.stderr, listed.stdout, listed.stderr]

    sink = KafkaSink(settings)
    change = example_change()
    await sink.deliver(change)
    await sink.close()
    (told,) = await records(settings, Topic.ALERTS, 1)
    assert told.key == change.incident_id.encode()
    assert [PASSWORD in output for output in outputs] == [False] * len(outputs)


async def test_with_plain_the_password_is_not_in_the_debug_log(
    secured: Secured, make: Callable[[Kafka], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(secured.kafka("SASL_PLAINTEXT", sasl_mechanism="PLAIN"))
    await create_topics(settings)
    monkeypatch.setenv("CAMPAIGNWATCH_KAFKA__SASL_PASSWORD", PASSWORD)
    monkeypatch.setenv("CAMPAIGNWATCH_LOG_LEVEL", "DEBUG")
    with worker(settings, tmp_path) as one:
        assert one.stop() == 0
        assert "DEBUG" in one.said()
        assert PASSWORD not in one.said()


def wrong(secured: Secured) -> dict[str, tuple[Kafka, str]]:
    """Settings with one thing wrong, and what is said of it."""
    plain = secured.broker.bootstrap_servers
    there = secured.broker.secure_servers
    localhost = there("SASL_SSL").replace("127.0.0.1", "localhost")
    return {
        "password": (secured.kafka("SASL_SSL", sasl_password="wrong"), "refuses user campaignwatch .*correct kafka.sasl_username and"),
        "password-plain": (
            secured.kafka("SASL_PLAINTEXT", sasl_password="wrong", sasl_mechanism="PLAIN"),
            "refuses user campaignwatch .*correct kafka.sasl_username and",
        ),
        "user": (secured.kafka("SASL_SSL", sasl_username="nobody"), "refuses user nobody"),
        "authority": (
            secured.kafka("SASL_SSL", ssl_ca_file=secured.directory / "other-ca.pem"),
            "from an authority that is not trusted here .*set kafka.ssl_ca_file",
        ),
        "name": (secured.kafka("SASL_SSL", bootstrap_servers=localhost), "is for another name .*ssl_check_hostname"),
        "no-certificate": (
            secured.kafka("SSL", ssl_cert_file=None, ssl_key_file=None),
            "demands a client certificate; set kafka.ssl_cert_file and kafka.ssl_key_file",
        ),
        "foreign-certificate": (
            secured.kafka("SSL", ssl_cert_file=secured.directory / "other-client.pem", ssl_key_file=secured.directory / "other-client.pem"),
            "see whether it trusts the authority of kafka.ssl_cert_file .*other-client.pem",
        ),
        "plaintext-to-tls": (Kafka(bootstrap_servers=there("SSL")), "speaks TLS; set kafka.security_protocol to SSL"),
        "plaintext-to-login": (
            Kafka(bootstrap_servers=there("SASL_PLAINTEXT")),
            "demands a login; set kafka.security_protocol to SASL_PLAINTEXT",
        ),
        "tls-to-tls-login": (
            secured.kafka("SSL", bootstrap_servers=there("SASL_SSL")),
            "demands a login; set kafka.security_protocol to SASL_SSL",
        ),
        "tls-to-plaintext": (secured.kafka("SASL_SSL", bootstrap_servers=plain), "does not speak TLS on this port"),
        "login-to-open": (secured.kafka("SASL_PLAINTEXT", bootstrap_servers=plain), "wants no login on this port"),
    }


WRONG = [
    "password",
    "password-plain",
    "user",
    "authority",
    "name",
    "no-certificate",
    "foreign-certificate",
    "plaintext-to-tls",
    "plaintext-to-login",
    "tls-to-tls-login",
    "tls-to-plaintext",
    "login-to-open",
]


@pytest.mark.parametrize("what", WRONG)
async def test_every_wrong_thing_is_said_within_seconds(secured: Secured, make: Callable[[Kafka], Settings], what: str) -> None:
    kafka, reason = wrong(secured)[what]
    settings = make(kafka)
    began = time.monotonic()
    with pytest.raises(PreflightError, match=reason) as refused:
        await check_kafka(settings)
    assert time.monotonic() - began < 10
    assert PASSWORD not in str(refused.value)
    with pytest.raises(TopicsError, match=reason):
        await create_topics(settings)


async def test_a_worker_needs_no_more_rights_than_the_operations_guide_names(
    secured: Secured, make: Callable[[Kafka], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(secured.kafka("SASL_SSL"))
    await create_topics(settings)
    humble = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"sasl_username": STRANGER})})

    def allow(*words: str) -> None:
        to = ["--bootstrap-server", secured.broker.bootstrap_servers, "--add", "--allow-principal", f"User:{STRANGER}"]
        secured.broker.tool("org.apache.kafka.tools.AclCommand", *to, *words)

    inputs = [word for topic in INPUT_TOPICS for word in ("--topic", settings.topic(topic))]
    allow("--operation", "Read", *inputs, "--group", consumer_group(settings))
    allow("--operation", "Write", "--topic", settings.topic(Topic.QUARANTINE))
    monkeypatch.setenv("CAMPAIGNWATCH_KAFKA__SASL_PASSWORD", PASSWORD)
    with worker(humble, tmp_path) as one:
        await send(settings, Topic.CLICKS, [click(1), b"no event"])
        found = await applied(one.url, 2)
        assert (found.total("applied"), found.total("quarantined")) == (1, 1)
        assert one.stop() == 0


async def test_what_a_user_may_not_do_is_named(secured: Secured, make: Callable[[Kafka], Settings]) -> None:
    settings = make(secured.kafka("SASL_SSL"))
    await create_topics(settings)
    stranger = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"sasl_username": STRANGER, "sasl_password": SecretStr(PASSWORD)})}
    )
    clicks = settings.topic(Topic.CLICKS)

    with pytest.raises(PreflightError, match=rf"does not let user stranger see topic {clicks}; allow it to read and write the topic"):
        await check_kafka(stranger, [Topic.CLICKS])
    with pytest.raises(PreflightError, match="does not let user stranger use consumer group g-1; allow it to read the group"):
        await check_group(stranger, "g-1")
    with pytest.raises(TopicsError, match="the user needs the right to create topics"):
        await create_topics(stranger)
    with pytest.raises(Rejected, match="allow this client to write to the topic"):
        await KafkaSink(stranger).deliver(example_change())
