"""How Kafka is connected to: the one place that turns the section `kafka` of the settings into what the client libraries take."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.config import ConfigError, Kafka, Settings

if TYPE_CHECKING:
    from faust.auth import Credentials


def connection(kafka: Kafka) -> dict[str, Any]:
    """The keyword arguments by which any client of aiokafka (producer, consumer, admin) reaches the brokers.

    They hold the password: never show them. Raises ConfigError when a certificate's file cannot be used.
    """
    return {"bootstrap_servers": kafka.bootstrap_servers, **security(kafka)}


def consumer_group(settings: Settings) -> str:
    """The group that all workers of an installation are in."""
    return f"{settings.kafka.topic_prefix}-streams"


def security(kafka: Kafka) -> dict[str, Any]:
    """The part of `connection` that says how the brokers are spoken to, without their addresses."""
    arguments: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.tls:
        arguments["ssl_context"] = tls_context(kafka)
    if kafka.sasl:
        assert kafka.sasl_username is not None and kafka.sasl_password is not None
        arguments |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return arguments


def faust_credentials(kafka: Kafka) -> Credentials | None:
    """The same for a Faust app's `broker_credentials`. Raises ConfigError when a certificate's file cannot be used."""
    # Only the workers have Faust, and it takes a while to load.
    from faust.auth import SASLCredentials, SSLCredentials

    context = tls_context(kafka) if kafka.tls else None
    if kafka.sasl:
        assert kafka.sasl_username is not None and kafka.sasl_password is not None
        return SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context=context) if context is not None else None


def tls_context(kafka: Kafka) -> ssl.SSLContext:
    """What TLS trusts and shows. Raises ConfigError, with the setting and the file, when a file cannot be used."""
    for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file"):
        path: Path | None = getattr(kafka, name)
        if path is not None:
            _readable(name, path)
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"kafka.ssl_ca_file: {kafka.ssl_ca_file}: no certificates in PEM form ({_reason(error)})") from error
    context.check_hostname = kafka.ssl_check_hostname
    if kafka.ssl_cert_file is not None:
        password = kafka.ssl_key_password.get_secret_value() if kafka.ssl_key_password is not None else ""
        try:
            # A password is always given, if an empty one: OpenSSL would ask for it at the terminal.
            context.load_cert_chain(kafka.ssl_cert_file, kafka.ssl_key_file, password)
        except ssl.SSLError as error:
            files = f"kafka.ssl_cert_file {kafka.ssl_cert_file} and kafka.ssl_key_file {kafka.ssl_key_file}"
            raise ConfigError(
                f"{files}: no certificate with its key, in PEM form, that kafka.ssl_key_password opens ({_reason(error)})"
            ) from error
    return context


def _readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"kafka.{name}: {path}: cannot be read: {error.strerror}") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
