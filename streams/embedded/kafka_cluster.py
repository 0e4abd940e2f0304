"""Three Apache Kafkas that are one cluster, so that a test can take one away."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from streams.embedded import ports
from streams.embedded.apache_kafka import ApacheKafka, libraries, new_cluster_id

_NODES = 3
#: Of two copies a producer's record is sure before it is acknowledged, so that one node can be lost; the groups' offsets likewise.
_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


class KafkaNode(ApacheKafka):
    """A broker and controller of a cluster; its ports and those of the others are fixed from the beginning."""

    def __init__(self, number: int, cluster_id: str, port: int, controllers: Sequence[int]) -> None:
        super().__init__(port=port, properties={**_REPLICATED, "node.id": str(number + 1)})
        self.name = f"Apache Kafka {number + 1} of {len(controllers)}"
        self._cluster_id = cluster_id
        self._controller_port = controllers[number]
        self._voters = ",".join(f"{each + 1}@{ports.HOST}:{controller}" for each, controller in enumerate(controllers))

    def _addresses(self) -> dict[str, str]:
        addresses = super()._addresses()
        del addresses["controller.quorum.bootstrap.servers"]
        return {**addresses, "controller.quorum.voters": self._voters}

    def _format_options(self) -> list[str]:
        return ["-t", self._cluster_id]


class KafkaCluster:
    """Three nodes on loopback, each broker and controller. One may be away: topics of three copies go on, and so do the groups.

    Life: `start` -> (`kill(i)`, `start(i)`, `nodes[i].pause()`, ...) -> `close`. As a context manager it starts on entry and closes on
    exit.
    """

    def __init__(self) -> None:
        self.nodes: tuple[KafkaNode, ...] = ()

    @property
    def bootstrap_servers(self) -> str:
        """host:port of all three nodes, with commas."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self, number: int | None = None) -> Self:
        """Start all nodes that do not run, or that one; return once they know themselves as members. Raises EmbeddedError."""
        if not self.nodes:
            libraries()
            free = [ports.free_port() for _ in range(2 * _NODES)]
            cluster_id = new_cluster_id()
            self.nodes = tuple(KafkaNode(each, cluster_id, free[each], free[_NODES:]) for each in range(_NODES))
        starting = self.nodes if number is None else (self.nodes[number],)
        # At once: a node alone has no majority of controllers, and waits for the others.
        with ThreadPoolExecutor(len(starting)) as pool:
            try:
                list(pool.map(KafkaNode.start, starting))
            except BaseException:
                if number is None:
                    self.close()
                raise
        return self

    def kill(self, number: int) -> None:
        """End a node at once, as a crash would. Its files stay for `start(number)`."""
        self.nodes[number].kill()

    def close(self) -> None:
        """Stop all nodes and remove their directories. Safe to call twice."""
        for node in self.nodes:
            # Not politely, one by one: the last ones would wait for a majority that is gone.
            node.kill()
        for node in self.nodes:
            node.close()
        self.nodes = ()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
