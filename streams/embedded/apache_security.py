"""Listeners of an Apache Kafka that demand TLS, a login or a certificate, for tests of exactly that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Protocol = Literal["SSL", "SASL_PLAINTEXT", "SASL_SSL"]
PROTOCOLS: tuple[Protocol, ...] = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Security:
    """What the secure listeners demand: SSL a client certificate of the authority, the other two a login by any of `MECHANISMS`.

    The first of `users` may do everything, as may whoever comes by the open listener or with a certificate; the others only what an ACL
    allows them.
    """

    #: Name -> password.
    users: Mapping[str, str]
    #: PEM: the server's key, its certificate and the chain.
    server_file: Path
    #: PEM: the authority that clients' certificates must be from.
    authority_file: Path
    #: The client certificate's subject, as Java writes it.
    certificate_subject: str = ""

    def properties(self) -> dict[str, str]:
        """For server.properties."""
        everything = ["User:ANONYMOUS", f"User:{next(iter(self.users))}"]
        if self.certificate_subject:
            everything.append(f"User:{self.certificate_subject}")
        properties = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.server_file),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority_file),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": ";".join(everything),
        }
        passwords = " ".join(f'user_{user}="{password}"' for user, password in self.users.items())
        for listener in ("sasl_plaintext", "sasl_ssl"):
            at = f"listener.name.{listener}"
            properties[f"{at}.plain.sasl.jaas.config"] = f"org.apache.kafka.common.security.plain.PlainLoginModule required {passwords};"
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                properties[f"{at}.{mechanism}.sasl.jaas.config"] = module
        return properties

    def format_options(self) -> list[str]:
        """For the storage tool: the users of SCRAM are kept in the metadata log."""
        options = []
        for user, password in self.users.items():
            for mechanism in MECHANISMS[1:]:
                options += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        return options
