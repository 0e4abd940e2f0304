"""What `docker compose up` starts: pinned, without default passwords, nobody as root, nothing open to the network, and scalable."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from alerts.cli import COMMANDS
from streams.api.access import Access
from streams.config import ENV_PREFIX, Settings, load
from streams.embedded.ports import free_port
from streams.embedded.redis import binary

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"topics"}
#: Do their work without a page to ask.
WITHOUT_HEALTH = ONE_SHOT | {"producer"}
#: Start as an unprivileged user by themselves.
NON_ROOT_IMAGES = ("campaignwatch:", "apache/kafka:")

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def example() -> dict[str, str]:
    """Every variable that .env.example names, those that are commented out too."""
    found: dict[str, str] = {}
    for line in (ROOT / ".env.example").read_text("utf-8").splitlines():
        if match := re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line):
            found[match[1]] = match[2].strip("'")
    return found


def environment(service: str, given: dict[str, str]) -> dict[str, str]:
    """The container's environment as Compose makes it from `given`; KeyError for a required variable that is absent."""

    def value_of(match: re.Match[str]) -> str:
        name, operator, word = match[1], match[2], match[3]
        if given.get(name):
            return given[name]
        if operator != "-":
            raise KeyError(name)
        return word

    result = {}
    for name, value in SERVICES[service]["environment"].items():
        if value is not None:
            result[name] = _VARIABLE.sub(value_of, str(value))
        elif name in given:
            result[name] = given[name]
    return result


def absent(service: str, given: dict[str, str]) -> set[str]:
    """Variables without which Compose refuses to start `service`."""
    values = SERVICES[service].get("environment", {}).values()
    return {match[0] for value in values for match in _VARIABLE.findall(str(value)) if match[1] == "?" and not given.get(match[0])}


def settings_of(service: str, given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    for name, value in environment(service, given).items():
        monkeypatch.setenv(name, value)
    return load()


PASSWORDS = {
    "REDIS_PASSWORD": "abc123",
    "GRAFANA_ADMIN_PASSWORD": "def456",
    "CAMPAIGNWATCH_PRIVACY__USER_KEY": "ghi789",
    "CAMPAIGNWATCH_HTTP__TOKEN": "jkl012mno345",
}


def test_images_are_pinned_to_a_full_version() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":(v?\d+\.\d+\.\d+|\$\{\w+:-\d+\.\d+\.\d+\})(-\w+)?$", service["image"]), name
    froms = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert len(froms) == 2
    for image in froms:
        assert re.fullmatch(r"python:3\.12\.\d+-slim-\w+", image)
    plugins = SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
    assert re.fullmatch(r"yesoreyeram-infinity-datasource@\d+\.\d+\.\d+", plugins)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"].startswith(NON_ROOT_IMAGES) or service["user"].split(":")[0] not in ("root", "0")
    assert "privileged" not in service
    # Kafka and Grafana write into their own installation.
    assert service.get("read_only", False) == (name not in ("kafka", "grafana"))
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_be_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"].startswith("on-failure")
        return
    # The producer begins with history, which a restart would send once more.
    assert service["restart"] == ("no" if name == "producer" else "unless-stopped")
    assert service["stop_grace_period"]
    if name in WITHOUT_HEALTH:
        assert service["healthcheck"] == {"disable": True}
    elif service["image"].startswith("campaignwatch:"):
        page = service["environment"]["HEALTH_URL"]
        assert page.endswith(f":{service['environment'][f'CAMPAIGNWATCH_{name.upper()}__HTTP_PORT']}/healthz")
    else:
        assert service["healthcheck"]["test"]


def test_the_image_checks_its_health_with_python_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"^USER 10001:10001$", dockerfile, re.MULTILINE)
    assert 'ENTRYPOINT ["campaignwatch"]' in dockerfile
    assert re.search(r'HEALTHCHECK .*\\\n\s+CMD \["python"', dockerfile)
    assert "--require-hashes" in dockerfile


def test_streams_can_be_scaled() -> None:
    assert "container_name" not in SERVICES["streams"]
    assert "ports" not in SERVICES["streams"]
    assert "hostname" not in SERVICES["streams"]


def test_every_command_exists() -> None:
    known = {entry.words for entry in COMMANDS}
    for name, service in SERVICES.items():
        if service["image"].startswith("campaignwatch:"):
            words = [word for word in service["command"] if not word.startswith("-")]
            assert {" ".join(words[:n]) for n in (1, 2)} & known, f"{name}: campaignwatch {' '.join(words)}"


def test_what_must_be_there_first_is_waited_for() -> None:
    for name in ("streams", "alerts"):
        conditions = {on: what["condition"] for on, what in SERVICES[name]["depends_on"].items()}
        assert conditions == {"topics": "service_completed_successfully", "kafka": "service_healthy", "redis": "service_healthy"}
    assert SERVICES["producer"]["profiles"] == ["demo"]


def test_the_log_and_the_tables_survive_a_new_container() -> None:
    mounts = {volume.split(":")[0]: volume.split(":")[1] for s in SERVICES.values() for volume in s.get("volumes", ()) if volume[0] != "."}
    assert set(mounts) == set(COMPOSE["volumes"])
    assert mounts["kafka-data"] == SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]
    assert mounts["redis-data"] == "/data"


@pytest.mark.parametrize("missing", PASSWORDS)
def test_nothing_starts_without_a_password_of_its_own(missing: str) -> None:
    given = {name: value for name, value in PASSWORDS.items() if name != missing}
    refused = {name for name, service in SERVICES.items() if missing in absent(name, given)}
    assert refused, f"{missing} is asked for by no service"
    assert all(absent(name, PASSWORDS) == set() for name in SERVICES)


def test_the_example_names_every_variable_and_no_other() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    used = {match[0] for match in _VARIABLE.findall(text)} | set(re.findall(r"^\s+(CAMPAIGNWATCH_\w+):$", text, re.MULTILINE))
    left_out = {"CAMPAIGNWATCH_VERSION", "CAMPAIGNWATCH_KAFKA__TOPIC_PREFIX", "CAMPAIGNWATCH_LOG_LEVEL", "GRAFANA_ADMIN_USER"}
    assert used - left_out - {"CAMPAIGNWATCH_ALERTS__DASHBOARD_URL"} == set(example())
    assert {name for name, value in example().items() if not value} == {*PASSWORDS, "KAFKA_CLUSTER_ID", "CAMPAIGNWATCH_HTTP__PASSWORD"}


@pytest.mark.parametrize("service", ["topics", "streams", "alerts", "producer"])
def test_the_settings_of_a_container_can_be_used(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(service, PASSWORDS, monkeypatch)
    assert settings.kafka.bootstrap_servers == "kafka:19092"
    assert "INSIDE://kafka:19092" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.redis.url == "redis://:abc123@redis:6379/0"
    assert settings.privacy.user_key.get_secret_value() == "ghi789"
    assert settings.slack.bot_token is None
    assert settings.slack.webhook_url is None


def test_every_line_of_the_example_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("alerts", {**example(), **PASSWORDS, "CAMPAIGNWATCH_HTTP__PASSWORD": "pqr678stu901"}, monkeypatch)
    assert {currency: str(rate) for currency, rate in settings.money.rates.items()} == {"EUR": "1.0842", "GBP": "1.2710"}
    assert settings.money.spend_sources == {"google": "reports"}
    assert settings.slack.channel == "#campaign-alerts"


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, "--config", ROOT / ".hadolint.yaml", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pages_that_leave_their_container_ask_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("streams", "alerts"):
        settings = settings_of(service, PASSWORDS, monkeypatch)
        assert getattr(settings, service).http_host == "0.0.0.0"
        assert Access(settings.http).restricted
        assert not settings.http.allow_anonymous


def test_prometheus_finds_the_token_in_a_file_that_its_command_makes(tmp_path: Path) -> None:
    shell, option = SERVICES["prometheus"]["entrypoint"]
    (script,) = SERVICES["prometheus"]["command"]
    (directory,) = (mount.split(":")[0] for mount in SERVICES["prometheus"]["tmpfs"])
    scraped = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text("utf-8"))["scrape_configs"]
    files = {config["authorization"]["credentials_file"] for config in scraped if "dns_sd_configs" in config}
    assert files == {f"{directory}/http_token"}
    # What the container would run tells what it was given.
    (tmp_path / "prometheus").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done; env\n', "utf-8")
    (tmp_path / "prometheus").chmod(0o755)
    given = {**environment("prometheus", PASSWORDS), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    here = script.replace("$$", "$").replace(directory, str(tmp_path))
    done = subprocess.run([shell, option, here], env=given, capture_output=True, text=True, timeout=20, check=True)
    assert (tmp_path / "http_token").read_text("utf-8") == PASSWORDS["CAMPAIGNWATCH_HTTP__TOKEN"]
    assert (tmp_path / "http_token").stat().st_mode & 0o777 == 0o600
    assert "--storage.tsdb.retention.time=30d" in done.stdout.splitlines()
    assert "--config.file=/etc/prometheus/prometheus.yml" in done.stdout.splitlines()
    assert PASSWORDS["CAMPAIGNWATCH_HTTP__TOKEN"] not in done.stdout + done.stderr


@pytest.mark.integration
def test_redis_takes_its_password_and_its_limits_from_the_compose_command(tmp_path: Path) -> None:
    shell, option, script = SERVICES["redis"]["command"]
    (tmp_path / "redis-server").symlink_to(binary())
    port = free_port()
    # Only where it listens and where it writes differ from the container.
    here = script.replace("$$", "$").replace("dir /data", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1")
    given = {**environment("redis", {**PASSWORDS, "REDIS_MAXMEMORY": "64mb"}), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen([shell, option, here], env=given, stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(
                port=port, password=PASSWORDS["REDIS_PASSWORD"], decode_responses=True, retry=Retry(ConstantBackoff(0.1), 100)
            )
            assert client.ping()
            set_to = client.config_get("*")
            assert set_to["maxmemory-policy"] == "noeviction"
            assert set_to["maxmemory"] == str(64 << 20)
            assert (set_to["appendonly"], set_to["appendfsync"]) == ("yes", "everysec")
            assert PASSWORDS["REDIS_PASSWORD"] not in Path(f"/proc/{server.pid}/cmdline").read_text("utf-8")
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=port).ping()
        finally:
            # The server has taken the shell's place, so that it gets the signal of `docker compose stop` and writes what it holds.
            server.terminate()
        assert server.wait(timeout=20) == 0
