"""Why Kafka cannot be reached, in a sentence with the next step.

aiokafka says "Unable to bootstrap" of a broker that is away, a wrong password, an unknown authority and a missing client certificate alike.
So the way is gone once more, a step at a time: the connection, TLS, the login, a first question, the addresses in its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    for_code,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from streams.config import ENV_PREFIX, Kafka
from streams.kafka import security

#: Seconds for each step.
PATIENCE = 5.0
_SETTING = f"set kafka.bootstrap_servers ({ENV_PREFIX}KAFKA__BOOTSTRAP_SERVERS)"
#: OpenSSL's numbers for a certificate that was refused.
_EXPIRED, _NOT_YET = 10, 9
_WRONG_NAME = (62, 63, 64)


async def why_not(kafka: Kafka) -> str | None:
    """What is wrong with the first of `bootstrap_servers` that is not away, or with all; None when nothing is found to be wrong.

    Takes at most a few times `PATIENCE` seconds for each server. Never raises for what a server does.
    """
    reasons = []
    for server in kafka.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit():
            return f"{server.strip()!r} is not host:port; {_SETTING}"
        away = await _away(host.strip("[]"), int(port))
        if away is None:
            return await _refusal(kafka, host.strip("[]"), int(port))
        reasons.append(f"{server.strip()}: {away}")
    return f"{'; '.join(reasons)}; start the broker, or {_SETTING}"


async def _away(host: str, port: int) -> str | None:
    """Why no connection can be had; None when one can."""
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except TimeoutError:
        return f"no connection within {PATIENCE:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return None


async def _refusal(kafka: Kafka, host: str, port: int) -> str | None:
    """Why a server that takes the connection cannot be used; None when it can."""
    at = f"{host}:{port}"
    try:
        async with _connected(host, port, security(kafka)) as connection:
            answer = await connection.send(MetadataRequest([]))
            brokers = [(name, number) for _, name, number, *_ in answer.brokers]
    except ssl.SSLCertVerificationError as error:
        return _distrusted(at, error)
    except SaslAuthenticationFailed:
        return f"{at} refuses user {kafka.sasl_username} (SASL_AUTHENTICATION_FAILED); correct kafka.sasl_username and kafka.sasl_password"
    except UnsupportedSaslMechanismError:
        return f"{at} does not offer {kafka.sasl_mechanism}; set kafka.sasl_mechanism to one that the brokers enable"
    except IllegalSaslStateError:
        plain = "SSL" if kafka.tls else "PLAINTEXT"
        return (
            f"{at} wants no login on this port; set kafka.security_protocol to {plain}, or kafka.bootstrap_servers to the port with login"
        )
    except TimeoutError:
        return await _silent(kafka, host, port)
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        return await _hung_up(kafka, host, port, error)
    return await _advertised(at, brokers)


async def _silent(kafka: Kafka, host: str, port: int) -> str:
    if not kafka.tls and await _speaks_tls(host, port):
        return _use(f"{host}:{port} speaks TLS", "SASL_SSL" if kafka.sasl else "SSL")
    return (
        f"{host}:{port} takes the connection and does not answer within {PATIENCE:.0f} s; see whether the broker hangs or is no Kafka, "
        f"or {_SETTING}"
    )


async def _hung_up(kafka: Kafka, host: str, port: int, error: Exception) -> str:
    """The server ended the connection, or what came was not understood."""
    at = f"{host}:{port}"
    if not kafka.tls:
        if await _speaks_tls(host, port):
            return _use(f"{at} speaks TLS", "SASL_SSL" if kafka.sasl else "SSL")
        if not kafka.sasl and await _wants_login(host, port, security(kafka)):
            return _use(f"{at} demands a login", "SASL_PLAINTEXT")
        return f"{at} ends the connection ({_text(error)}); see whether it is a Kafka broker, or {_SETTING}"
    if not await _speaks_tls(host, port):
        return _use(f"{at} does not speak TLS on this port", "SASL_PLAINTEXT" if kafka.sasl else "PLAINTEXT", "or the port with TLS")
    if not kafka.sasl and await _wants_login(host, port, security(kafka)):
        return _use(f"{at} demands a login", "SASL_SSL")
    if kafka.ssl_cert_file is None:
        return (
            f"{at} ends the TLS connection ({_text(error)}), as one does that demands a client certificate; "
            "set kafka.ssl_cert_file and kafka.ssl_key_file"
        )
    return (
        f"{at} ends the TLS connection ({_text(error)}); see whether it trusts the authority of kafka.ssl_cert_file {kafka.ssl_cert_file} "
        "and whether that certificate is still valid"
    )


async def _advertised(at: str, brokers: list[tuple[str, int]]) -> str | None:
    """Clients go on to the addresses that the first server names."""
    for host, port in brokers:
        away = await _away(host, port)
        if away is not None:
            return (
                f"{at} answers and names broker {host}:{port}, which cannot be reached from here ({away}); start that broker, "
                "or correct its advertised.listeners"
            )
    return None


def _distrusted(at: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _WRONG_NAME:
        return (
            f"the certificate of {at} is for another name ({error.verify_message}); set kafka.bootstrap_servers to its name, "
            "or kafka.ssl_check_hostname to false"
        )
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return f"the certificate of {at} is not valid today ({error.verify_message}); renew it, or set this machine's clock"
    return (
        f"the certificate of {at} is from an authority that is not trusted here ({error.verify_message}); "
        "set kafka.ssl_ca_file to the authority's PEM file"
    )


def _use(what: str, protocol: str, otherwise: str = "") -> str:
    return f"{what}; set kafka.security_protocol to {protocol}" + (f", {otherwise}" if otherwise else "")


@contextlib.asynccontextmanager
async def _connected(host: str, port: int, arguments: dict[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    """A connection that is logged in."""
    connection = await create_conn(host, port, client_id="campaignwatch-probe", request_timeout_ms=int(PATIENCE * 1_000), **arguments)
    try:
        yield connection
    finally:
        connection.close()


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether a TLS handshake gets so far that the server shows a certificate, whatever it is worth."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.close()
    except ssl.SSLError as error:
        # An alert is an answer in TLS; it may come of a client certificate that is missing.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True


async def _wants_login(host: str, port: int, arguments: dict[str, Any]) -> bool:
    """Whether a server that answers ApiVersions takes the first step of a login, too."""
    with contextlib.suppress(KafkaError, OSError, AssertionError):
        async with _connected(host, port, arguments) as connection:
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
            return for_code(answer.error_code) is not IllegalSaslStateError
    return False


def _text(error: BaseException) -> str:
    """The first cause that says something, without the names of classes."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason.lower().replace("_", " ")
        cause = cause.__cause__
    return str(error).removeprefix("KafkaConnectionError: ") or type(error).__name__
