"""A real Apache Kafka (KRaft, one node) without a container: its jars come from Maven, Java runs them.

Heavier than the embedded broker (5 s to start, 170 MB), and the real thing: what the tests pass here, they pass in production.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from streams.embedded import kafka_protocol, ports
from streams.embedded.apache_security import PROTOCOLS, Protocol, Security
from streams.embedded.process import EmbeddedError, Server

VERSION = "4.3.1"

#: Names no repository on purpose: Maven uses the one that this machine is set up for.
_POM = f"""<?xml version="1.0" encoding="UTF-8"?>
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>campaignwatch</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version>
      <exclusions><exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version>
    </dependency>
  </dependencies>
</project>
"""

_LOG4J = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""

#: One node that is broker and controller, small buffers, no waiting for a group's second member.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a kill the controller waits this long before it lets the same node in again.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.cleaner.threads": "1",
}

_MAVEN_TIMEOUT = 600.0
_FORMAT_TIMEOUT = 60.0


class ApacheKafka(Server):
    """Apache Kafka on a loopback port. What was written survives `kill` and `restart` and goes with `close`.

    `properties` are added to server.properties and win over what stands there. `security` opens further listeners, with TLS and logins;
    the open one stays. The first start on a machine fetches the jars (45 MB) into the user's cache directory.
    """

    name = "Apache Kafka"
    start_timeout = 90.0
    stop_timeout = 20.0

    def __init__(
        self,
        *,
        port: int | None = None,
        directory: Path | None = None,
        properties: Mapping[str, str] | None = None,
        security: Security | None = None,
    ) -> None:
        super().__init__(port=port, directory=directory)
        self._properties = dict(properties or {})
        self._security = security
        self._secure_ports: dict[str, int] = {}
        self._controller_port = 0

    @property
    def bootstrap_servers(self) -> str:
        """host:port for clients, of the open listener."""
        return f"{ports.HOST}:{self.port}"

    def secure_servers(self, protocol: Protocol) -> str:
        """host:port for clients that speak `protocol`; needs `security`. Known from the first start on."""
        return f"{ports.HOST}:{self._secure_ports[protocol]}"

    @property
    def data_directory(self) -> Path:
        """Where the partitions lie."""
        return self.directory / "data"

    def prepare(self) -> None:
        """Write the configuration and format the storage, once."""
        libraries()
        if not self._controller_port or not ports.is_free(self._controller_port):
            self._controller_port = ports.free_port()
        if self._security is not None:
            self._secure_ports = {protocol: self._secure_ports.get(protocol) or ports.free_port() for protocol in PROTOCOLS}
        properties = {**_PROPERTIES, **self._addresses(), **(self._security.properties() if self._security else {}), **self._properties}
        (self.directory / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in properties.items()), encoding="utf-8")
        (self.directory / "log4j2.properties").write_text(_LOG4J, encoding="utf-8")
        if not (self.data_directory / "meta.properties").exists():
            command = [*self._java("-Xmx128m"), "kafka.tools.StorageTool", "format", "-c", str(self.directory / "server.properties")]
            command += [*self._format_options(), *(self._security.format_options() if self._security else ())]
            _run(command, "formatting its storage", _FORMAT_TIMEOUT, self.directory)

    def command(self) -> list[str]:
        """The broker, with a heap that suits a test."""
        return [*self._java("-Xms128m", "-Xmx256m"), "kafka.Kafka", str(self.directory / "server.properties")]

    def answers(self) -> bool:
        """Whether the node has registered itself with its controller."""
        return kafka_protocol.knows_broker_at(ports.HOST, self.port)

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's command line tools by its class, such as org.apache.kafka.tools.TopicCommand; what it says.

        Raises EmbeddedError when it fails.
        """
        return _run([*self._java("-Xmx128m"), name, *arguments], name.rpartition(".")[2], _FORMAT_TIMEOUT, self.directory)

    def _addresses(self) -> dict[str, str]:
        """The properties that say where the node listens and where its controllers are."""
        controller = f"{ports.HOST}:{self._controller_port}"
        listeners = {"PLAINTEXT": self.port, **self._secure_ports}
        open_to_clients = ",".join(f"{name}://{ports.HOST}:{port}" for name, port in listeners.items())
        return {
            "controller.quorum.bootstrap.servers": controller,
            "listeners": f"{open_to_clients},CONTROLLER://{controller}",
            "advertised.listeners": open_to_clients,
            "listener.security.protocol.map": ",".join(["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in listeners)]),
            "log.dirs": str(self.data_directory),
        }

    def _format_options(self) -> list[str]:
        return ["-t", new_cluster_id(), "--standalone"]

    def _java(self, *options: str) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile=file:{self.directory / 'log4j2.properties'}"
        return [java(), *options, "-XX:TieredStopAtLevel=1", "-cp", f"{libraries()}/*", log4j]


def new_cluster_id() -> str:
    """16 random bytes in URL-safe base64 without padding. One that starts with a dash would be read as an option."""
    return "A" + urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


def java() -> str:
    """Path of Java's program. Raises EmbeddedError when there is none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home) / "bin" / "java")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise EmbeddedError("Apache Kafka: no java on PATH; install a Java runtime 17 or newer, or use the embedded broker")
    return found


def libraries() -> Path:
    """Directory with the jars, fetched by Maven at the first call on this machine. Raises EmbeddedError when that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "campaignwatch"
    target = cache / f"apache-kafka-{VERSION}"
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise EmbeddedError("Apache Kafka: no mvn on PATH to fetch its jars; install Maven, or use the embedded broker")
    cache.mkdir(parents=True, exist_ok=True)
    # Fetched beside the target and moved into place whole: an interrupted fetch leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as work:
        (Path(work) / "pom.xml").write_text(_POM, encoding="utf-8")
        jars = Path(work) / "jars"
        copy = [maven, "-B", "-q", "dependency:copy-dependencies", f"-DoutputDirectory={jars}", "-DincludeScope=runtime"]
        _run(copy, "fetching its jars with Maven", _MAVEN_TIMEOUT, Path(work))
        try:
            jars.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def _run(command: list[str], doing: str, timeout: float, directory: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedError(f"Apache Kafka: {doing} took longer than {timeout:.0f} s") from error
    except OSError as error:
        raise EmbeddedError(f"Apache Kafka: {doing}: {command[0]} cannot be started: {error.strerror}") from error
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        tail = "\n".join(said.splitlines()[-15:])
        raise EmbeddedError(f"Apache Kafka: {doing} failed with status {done.returncode}:\n{tail}")
    return said
