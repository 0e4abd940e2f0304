"""The section `kafka` of the settings, as the clients get it; and how a login or a certificate that cannot be is refused."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from faust.auth import SASLCredentials, SSLCredentials
from pydantic import SecretStr, ValidationError

from streams.config import ConfigError, Kafka, load
from streams.kafka import connection, faust_credentials, tls_context

PASSWORD = "never-show-this"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, cert.pem, key.pem, and another authority's other.pem and other-key.pem."""
    directory = tmp_path_factory.mktemp("certificates")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    mine, foreign = authority.issue_cert("localhost"), other.issue_cert("localhost")
    mine.private_key_pem.write_to_path(directory / "key.pem")
    mine.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    foreign.private_key_pem.write_to_path(directory / "other-key.pem")
    return directory


def test_without_settings_nothing_is_encrypted_and_nobody_logs_in() -> None:
    assert connection(Kafka()) == {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}
    assert faust_credentials(Kafka()) is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_login_reaches_aiokafka_and_faust_alike(protocol: str, mechanism: str) -> None:
    kafka = Kafka.model_validate(
        {"security_protocol": protocol, "sasl_mechanism": mechanism, "sasl_username": "u", "sasl_password": PASSWORD}
    )

    arguments, credentials = connection(kafka), faust_credentials(kafka)

    assert arguments["security_protocol"] == protocol
    assert [arguments[f"sasl_{name}"] for name in ("mechanism", "plain_username", "plain_password")] == [mechanism, "u", PASSWORD]
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.protocol.value, credentials.mechanism.value) == (protocol, mechanism)
    assert (credentials.username, credentials.password) == ("u", PASSWORD)
    assert ("ssl_context" in arguments) == (credentials.ssl_context is not None) == (protocol == "SASL_SSL")


def test_tls_trusts_the_named_authority_alone_and_checks_names(certificates: Path) -> None:
    kafka = Kafka(security_protocol="SSL", ssl_ca_file=certificates / "ca.pem")
    context = connection(kafka)["ssl_context"]
    assert len(context.get_ca_certs()) == 1
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert isinstance(faust_credentials(kafka), SSLCredentials)

    loose = tls_context(kafka.model_copy(update={"ssl_check_hostname": False}))
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("security_protocol: SASL_SSL", "SASL_SSL needs sasl_username and sasl_password"),
        ("security_protocol: SASL_SSL\n  sasl_mechanism: PLAIN", "SASL_SSL needs sasl_username and sasl_password"),
        ("sasl_username: u", "are not used with security_protocol PLAINTEXT; set SASL_SSL"),
        ("security_protocol: SSL\n  ssl_cert_file: cert.pem", "ssl_cert_file needs ssl_key_file"),
        ("security_protocol: SSL\n  ssl_key_file: key.pem", "ssl_key_file needs ssl_cert_file"),
        ("ssl_ca_file: ca.pem", "ssl_ca_file is set, but security_protocol PLAINTEXT is not encrypted; set SSL, or"),
        ("security_protocol: TLS", "security_protocol: Input should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
    ],
    ids=["no-login", "no-user", "login-unused", "no-key", "no-certificate", "certificate-unused", "unknown-protocol"],
)
def test_what_does_not_fit_together_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, reason: str) -> None:
    if "needs sasl_username" in reason or "not used" in reason:
        monkeypatch.setenv("CAMPAIGNWATCH_KAFKA__SASL_PASSWORD", PASSWORD)
    (tmp_path / "campaignwatch.yaml").write_text(f"kafka:\n  {section}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "campaignwatch.yaml")
    assert reason in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_an_empty_variable_takes_back_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "campaignwatch.yaml").write_text(
        "kafka: {security_protocol: SASL_SSL, sasl_username: u, ssl_ca_file: ca.pem}", encoding="utf-8"
    )
    for name, value in {"SECURITY_PROTOCOL": "PLAINTEXT", "SASL_USERNAME": "", "SASL_PASSWORD": "", "SSL_CA_FILE": ""}.items():
        monkeypatch.setenv(f"CAMPAIGNWATCH_KAFKA__{name}", value)
    assert load(tmp_path / "campaignwatch.yaml").kafka == Kafka()


def test_files_that_cannot_be_used_are_named_with_their_setting(certificates: Path) -> None:
    ca, cert, key = (certificates / name for name in ("ca.pem", "cert.pem", "key.pem"))
    missing = certificates / "missing.pem"
    empty = certificates / "empty.pem"
    empty.write_text("", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"kafka\.ssl_ca_file: .*missing\.pem: cannot be read: No such file"):
        tls_context(Kafka(security_protocol="SSL", ssl_ca_file=missing))
    with pytest.raises(ConfigError, match=r"kafka\.ssl_ca_file: .*empty\.pem: no certificates in PEM form"):
        tls_context(Kafka(security_protocol="SSL", ssl_ca_file=empty))
    with pytest.raises(ConfigError, match=r"kafka\.ssl_key_file: .*missing\.pem: cannot be read"):
        tls_context(Kafka(security_protocol="SSL", ssl_ca_file=ca, ssl_cert_file=cert, ssl_key_file=missing))
    with pytest.raises(ConfigError, match=r"other-key\.pem: no certificate with its key.*key values mismatch"):
        tls_context(Kafka(security_protocol="SSL", ssl_ca_file=ca, ssl_cert_file=cert, ssl_key_file=certificates / "other-key.pem"))
    tls_context(Kafka(security_protocol="SSL", ssl_ca_file=ca, ssl_cert_file=cert, ssl_key_file=key))


def test_a_key_behind_a_password_opens_with_it_and_never_asks(certificates: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form

    plain = form.load_pem_private_key((certificates / "key.pem").read_bytes(), None)
    locked = certificates / "locked.pem"
    encryption = form.BestAvailableEncryption(PASSWORD.encode())
    locked.write_bytes(plain.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption))
    without = Kafka(
        security_protocol="SSL", ssl_ca_file=certificates / "ca.pem", ssl_cert_file=certificates / "cert.pem", ssl_key_file=locked
    )

    tls_context(without.model_copy(update={"ssl_key_password": SecretStr(PASSWORD)}))
    for wrong in (None, SecretStr("wrong")):
        with pytest.raises(ConfigError, match=r"locked\.pem: no certificate with its key, in PEM form, that kafka\.ssl_key_password opens"):
            tls_context(without.model_copy(update={"ssl_key_password": wrong}))


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    kafka = Kafka(security_protocol="SASL_SSL", sasl_username="u", sasl_password=SecretStr(PASSWORD), ssl_key_password=SecretStr(PASSWORD))
    assert PASSWORD not in f"{kafka!r} {kafka} {faust_credentials(kafka)!r} {kafka.model_dump_json()}"
    with pytest.raises(ValidationError) as refused:
        Kafka(sasl_username="u", sasl_password=SecretStr(PASSWORD))
    assert PASSWORD not in str(refused.value)
