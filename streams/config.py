"""Settings of every process, from one YAML file and the environment (the environment wins).

`load(path)` is the only way in. Each field's description is what the README's configuration table is made from; an unknown key, or a
value that cannot be, is refused with the file, the key and the reason.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from streams.errors import UserError
from streams.secrets import warn_of_file, with_files

ENV_PREFIX = "CAMPAIGNWATCH_"
Seconds = Annotated[float, Field(gt=0)]


class ConfigError(UserError):
    """The configuration cannot be used. The message names the source, the key and the reason."""


class Topic(StrEnum):
    """The topics of the contract, by the name behind the prefix."""

    CLICKS = "clicks"
    CONVERSIONS = "conversions"
    ENGAGEMENTS = "engagements"
    SPEND = "spend"
    CAMPAIGNS = "campaigns"
    QUARANTINE = "quarantine"
    ALERTS = "alerts"


#: Topics whose records are measured, in the order in which documents list them.
EVENT_TOPICS = (Topic.CLICKS, Topic.CONVERSIONS, Topic.ENGAGEMENTS, Topic.SPEND)
#: Topics that the streams workers read.
INPUT_TOPICS = (*EVENT_TOPICS, Topic.CAMPAIGNS)

#: Event fields that a cube may be keyed by. Personal data (user_id, ip, user_agent) is not among them on purpose.
DIMENSIONS = (
    "campaign_id",
    "channel",
    "account_id",
    "platform",
    "creative_id",
    "keyword",
    "region",
    "segment",
    "experiment_id",
    "variant_id",
)

#: The cubes of the contract: name -> the dimensions of a row's key.
DEFAULT_CUBES: dict[str, tuple[str, ...]] = {
    "total": (),
    "account": ("account_id",),
    "campaign": ("campaign_id",),
    "channel": ("channel",),
    "platform": ("platform",),
    "region": ("region",),
    "campaign_channel": ("campaign_id", "channel"),
    "campaign_creative": ("campaign_id", "creative_id"),
    "channel_segment": ("channel", "segment"),
    "experiment_variant": ("experiment_id", "variant_id"),
}


class _Section(BaseModel):
    # What was given may be a secret in the wrong place, so that no error repeats it.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class Kafka(_Section):
    """The broker and the topics on it."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port list of the brokers."""
    topic_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")] = "marketing"
    """What stands before the dot in every topic's name."""
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Partitions that `topics create` gives each event topic. More partitions, more workers."""
    replication_factor: Annotated[int, Field(ge=1, le=10)] = 1
    """Copies of each partition that `topics create` asks for; 3 in production."""
    retention_hours: Annotated[int, Field(ge=1)] = 168
    """How long `topics create` tells the broker to keep events; also how far back a rebuild can reach."""
    quarantine_retention_hours: Annotated[int, Field(ge=1)] = 168
    """How long `topics create` tells the broker to keep refused records, which are kept whole: personal data included."""
    alerts_retention_hours: Annotated[int, Field(ge=1)] = 168
    """How long `topics create` tells the broker to keep changes of incidents on the alerts topic."""
    session_timeout: Seconds = 10.0
    """Seconds without a heartbeat after which a worker's partitions move to the others."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the brokers are spoken to: SSL is TLS, SASL is a login with user and password."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the password is proved: PLAIN sends it as it is, SCRAM does not send it."""
    sasl_username: str | None = None
    """User of the login, for SASL_PLAINTEXT and SASL_SSL."""
    sasl_password: SecretStr | None = None
    """Password of the login."""
    ssl_ca_file: Path | None = None
    """PEM file of the authorities that the brokers' certificates are from. Default: those that the system trusts."""
    ssl_cert_file: Path | None = None
    """PEM file of this client's own certificate and its chain, where the brokers demand one (mutual TLS)."""
    ssl_key_file: Path | None = None
    """PEM file of the key of the client's certificate."""
    ssl_key_password: SecretStr | None = None
    """Password of the key's file, if it has one."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must be for the name that it is reached by. Turn it off only where brokers have no stable names."""

    @field_validator("sasl_username", "sasl_password", "ssl_ca_file", "ssl_cert_file", "ssl_key_file", "ssl_key_password", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        # A variable that is set to nothing takes back what the file says.
        return None if value == "" else value

    @model_validator(mode="after")
    def _login_and_certificates_fit(self) -> Kafka:
        if self.sasl and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_username and sasl_password")
        if not self.sasl and (self.sasl_username is not None or self.sasl_password is not None):
            raise ValueError(f"sasl_username and sasl_password are not used with security_protocol {self.security_protocol}; set SASL_SSL")
        files = {"ssl_ca_file": self.ssl_ca_file, "ssl_cert_file": self.ssl_cert_file, "ssl_key_file": self.ssl_key_file}
        for name, file in files.items():
            if file is not None and not self.tls:
                raise ValueError(
                    f"{name} is set, but security_protocol {self.security_protocol} is not encrypted; "
                    f"set {'SASL_SSL' if self.sasl else 'SSL'}, or take {name} away"
                )
        if self.ssl_cert_file is not None and self.ssl_key_file is None:
            raise ValueError("ssl_cert_file needs ssl_key_file, the key of that certificate (it may be the same file)")
        if self.ssl_key_file is not None and self.ssl_cert_file is None:
            raise ValueError("ssl_key_file needs ssl_cert_file, the certificate of that key")
        return self

    @property
    def sasl(self) -> bool:
        """Whether the brokers want a login."""
        return self.security_protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")


class Redis(_Section):
    """Where the tables, incidents and the outbox are."""

    url: Annotated[str, Field(repr=False)] = "redis://127.0.0.1:6379/0"
    """Where the tables are kept. rediss:// for TLS. With a password it is a secret. Of a cluster, some or all nodes: redis://one:6379,two:6379."""
    cluster: bool = False
    """Whether the server is a Redis Cluster; several nodes in the URL say so too."""
    username: str | None = None
    """User of Redis' access lists; wins over the one in the URL."""
    password: SecretStr | None = None
    """Password; wins over the one in the URL."""
    ca_file: Path | None = None
    """CA certificates (PEM) that vouch for the server's; without it those of the system."""
    cert_file: Path | None = None
    """Certificate (PEM) that Campaignwatch shows the server, where that asks for one."""
    key_file: Path | None = None
    """Private key (PEM) of that certificate."""
    check_hostname: bool = True
    """Whether the server's certificate must name the host in the URL."""
    namespace: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,64}$")] = "cw"
    """First part of every key, so that several installations can share a server."""
    timeout: Seconds = 5.0
    """Seconds after which a Redis call is given up and tried again."""
    check_interval: Seconds = 60.0
    """Seconds between two looks at whether Redis may drop keys when its memory is full (maxmemory-policy), and whether keys are gone."""

    @model_validator(mode="after")
    def _tls_fits_the_url(self) -> Redis:
        secure = self.url.startswith("rediss://")
        for name in ("ca_file", "cert_file", "key_file"):
            path: Path | None = getattr(self, name)
            if path is None:
                continue
            if not secure:
                raise ValueError(f"{name} is for TLS, which starts with rediss:// in redis.url")
            if not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file: set cert_file too, the certificate that the key belongs to")
        return self

    @property
    def is_cluster(self) -> bool:
        """Whether to speak to a cluster: because `cluster` says so or the URL names several nodes."""
        return self.cluster or "," in self.url.rpartition("@")[2]


class Pane(_Section):
    """One step of the ladder of windows."""

    size: Annotated[int, Field(ge=10)]
    """Length of the pane in seconds; a multiple of the step below it, and it divides a day."""
    keep: Annotated[int, Field(ge=60)]
    """Seconds that the pane stays readable after its end, measured on the records' own time."""


MINUTE, HOUR, DAY = 60, 3_600, 86_400
#: Hours by which a broker may keep a record longer than it is told to: it deletes whole segments, which by default are a week long.
_DELETED_LATE = 8 * 24


class Streams(_Section):
    """The workers that keep the tables."""

    http_host: str = "127.0.0.1"
    """Address of a streams worker's HTTP pages."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8081
    """Port of a streams worker's HTTP pages; 0 picks a free one."""
    flush_interval: Seconds = 0.3
    """Seconds that events of a partition are gathered before they are applied in one atomic write."""
    flush_events: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Events of a partition that are applied at once without waiting for the interval."""
    flush_bytes: Annotated[int, Field(ge=1_024)] = 32 * 1_048_576
    """Bytes of keys and values of a partition that are applied at once; up to twice as many, or as many events, wait in memory."""
    dedupe_horizon: Seconds = 3_600.0
    """Seconds between record times within which a repeated event_id is a duplicate (the bound included)."""
    lateness: Annotated[float, Field(ge=0)] = 5.0
    """Seconds that the watermark stays behind the newest event, for events that overtake each other."""
    dedupe_ids: Annotated[int, Field(ge=1_000)] = 50_000_000
    """Event ids that a worker keeps in memory to find duplicates (40 to 80 bytes each); above it the oldest are forgotten, said aloud."""
    idle_timeout: Seconds = 15.0
    """Seconds without records after which a partition that is read to its end no longer holds the watermark."""
    stuck_after: Seconds = 60.0
    """Seconds that a partition with records waiting may stand still before the worker says that it is not alive."""
    nice: Annotated[int, Field(ge=0, le=19)] = 5
    """By how much a worker's ingest stands back for its pages, and for what else wants the same processor: Unix' nice value, added."""
    open_cells: Annotated[int, Field(ge=10_000)] = 64_000_000
    """Table cells of 8 bytes that a worker keeps in memory; above it the panes used longest ago are read again when needed."""
    max_rows_per_cube: Annotated[int, Field(ge=1)] = 1_000_000
    """Rows per cube, topic-partition and day; further ones are counted in the row of absent dimensions, and a metric says so."""
    max_kinds: Annotated[int, Field(ge=1)] = 1_000
    """Different event kinds per topic-partition and day that get a measure of their own; further ones count in the sums only."""
    metric_cubes: dict[str, tuple[str, ...]] = {
        "total": ("5m", "1h"),
        "account": ("5m", "1h"),
        "channel": ("5m", "1h"),
        "platform": ("5m", "1h"),
        "campaign": ("5m",),
    }
    """Cubes whose KPIs are in /metrics, and over which windows."""
    metric_rows: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Rows of each of these cubes in /metrics, those that spend most; all are in /api/kpis."""
    ladder: tuple[Pane, ...] = (
        Pane(size=10, keep=HOUR),
        Pane(size=MINUTE, keep=26 * HOUR),
        Pane(size=15 * MINUTE, keep=35 * DAY),
        Pane(size=DAY, keep=400 * DAY),
    )
    """The panes, finest first. Events older than the last step's retention are too late."""

    @model_validator(mode="after")
    def _ladder_fits(self) -> Streams:
        if not self.ladder:
            raise ValueError("ladder: at least one pane is needed")
        if self.ladder[0].size % 10:
            raise ValueError("ladder: the finest pane must be a multiple of 10 seconds")
        for step in self.ladder:
            if DAY % step.size:
                raise ValueError(f"ladder: a pane of {step.size} s does not divide a day")
        for finer, coarser in zip(self.ladder, self.ladder[1:], strict=False):
            if coarser.size <= finer.size or coarser.size % finer.size:
                raise ValueError(f"ladder: {coarser.size} s is not a larger multiple of {finer.size} s")
            if coarser.keep < finer.keep:
                raise ValueError(f"ladder: panes of {coarser.size} s must be kept at least as long as those of {finer.size} s")
        return self


class SpendSource(StrEnum):
    """Which topic a platform's `spend` is taken from."""

    EVENTS = "events"
    REPORTS = "reports"


class Money(_Section):
    """Currencies, and where spend is taken from."""

    reporting_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """Currency that all money is kept and shown in."""
    rates: dict[str, Decimal] = {}
    """Reporting currency per unit of another currency, as a string: {EUR: "1.0842"}. A currency without a rate is quarantined."""
    spend_sources: dict[str, SpendSource] = {}
    """Per platform, whether `spend` is the cost on events or the amount in the platform's reports. Default: events."""

    @field_validator("rates", mode="before")
    @classmethod
    def _no_float_rates(cls, rates: Any) -> Any:
        if isinstance(rates, dict):
            for currency, rate in rates.items():
                if isinstance(rate, float):
                    raise ValueError(f'{currency}: write the rate as a string ("{rate}"), so that it is exact')
        return rates

    @model_validator(mode="after")
    def _reporting_currency_needs_no_rate(self) -> Money:
        if self.rates.get(self.reporting_currency, Decimal(1)) != 1:
            raise ValueError(f"rates: {self.reporting_currency} is the reporting currency, so its rate is 1; leave it out")
        return self

    @field_validator("rates")
    @classmethod
    def _sane_rates(cls, rates: dict[str, Decimal]) -> dict[str, Decimal]:
        for currency, rate in rates.items():
            if not re.fullmatch(r"[A-Z]{3}", currency):
                raise ValueError(f"{currency}: a currency is three capital letters (ISO 4217)")
            if not rate.is_finite() or not 0 < rate <= 1_000_000:
                raise ValueError(f"{currency}: the rate must be above 0 and at most 1000000")
        return rates


class Privacy(_Section):
    """What becomes of personal data."""

    user_key: SecretStr = SecretStr("campaignwatch-development-key")
    """Key of the MAC (keyed BLAKE2b) that user ids are turned into before anything is stored. Set your own."""
    erased_keep_days: Annotated[int, Field(ge=1)] | None = None
    """Days for which old events do not bring erased users back into the tables. Default: `kafka.retention_hours` and 8 days."""


class Slack(_Section):
    """How Slack is reached."""

    webhook_url: SecretStr | None = None
    """Incoming webhook; new messages only, cannot update one in place."""
    bot_token: SecretStr | None = None
    """Bot token (xoxb-...) with chat:write; messages are updated in place. Wins over the webhook."""
    channel: str = "#campaign-alerts"
    """Channel for the bot's messages."""
    api_url: str = "https://slack.com/api/"
    """Base of Slack's Web API; set it to a stand-in for a rehearsal."""
    min_interval: Seconds = 1.0
    """Seconds between two messages in the channel. Slack allows about one a second."""
    timeout: Seconds = 10.0
    """Seconds after which a call of Slack is given up and tried again."""


class Alerts(_Section):
    """The process that judges and tells."""

    http_host: str = "127.0.0.1"
    """Address of the alerts process' HTTP pages."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8082
    """Port of the alerts process' HTTP pages; 0 picks a free one."""
    tick: Seconds = 10.0
    """Seconds between two looks at the tables, aligned to the clock."""
    lease: Seconds = 15.0
    """Seconds after which a leader that stopped renewing is replaced."""
    max_lag: Seconds = 300.0
    """Seconds that the watermark may be behind the clock; further behind, old news is not judged and a metric says so."""
    outbox_length: Annotated[int, Field(ge=1_000)] = 100_000
    """Changes of incidents that the outbox keeps for the sinks; older ones go first."""
    keep_resolved_days: Annotated[int, Field(ge=1)] = 30
    """Days that a resolved incident stays in /api/incidents."""
    dashboard_url: str | None = None
    """Base URL of Grafana, for the links in messages."""
    fold_above: Annotated[int, Field(ge=1)] = 20
    """Waiting changes above which Slack is told only the newest of an incident's updates, and those after openings and resolutions."""


Login = Annotated[SecretStr, Field(min_length=12)]


class Http(_Section):
    """Who may see the HTTP pages of both processes, and how many requests at a time."""

    token: Login | None = None
    """What programs show as `Authorization: Bearer TOKEN`; 12 characters or more."""
    username: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+$", max_length=200)] = "campaignwatch"
    """User of the password."""
    password: Login | None = None
    """What browsers ask for (basic authentication); 12 characters or more. With a token too, either will do."""
    allow_anonymous: bool = False
    """Whether the pages may be served beyond this machine without token and password."""
    max_requests: Annotated[int, Field(ge=1)] = 64
    """Requests that a process answers at a time; it refuses further ones with 503. Health and metrics are always answered."""
    max_connections: Annotated[int, Field(ge=1)] = 500
    """Connections that a process keeps open at a time; further ones are closed at once."""
    idle_timeout: Seconds = 75.0
    """Seconds within which the next request must have come in full, else the connection is closed."""
    cache_bytes: Annotated[int, Field(ge=0)] = 268_435_456
    """Bytes of panes that are held from one answer about KPIs to the next, so that only what has changed is read; 0 reads all anew."""
    kept_answers: Annotated[int, Field(ge=0)] = 50
    """Answers about KPIs that are kept, and renewed in the background, for those who take some that are seconds old (`max_age`)."""

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("letters, digits and signs of ASCII only, without spaces; openssl rand -hex 24 makes a good one")
        return token


class Settings(BaseSettings):
    """All settings. Environment: CAMPAIGNWATCH_SECTION__KEY; two underscores nest."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    streams: Streams = Streams()
    money: Money = Money()
    privacy: Privacy = Privacy()
    alerts: Alerts = Alerts()
    http: Http = Http()
    slack: Slack = Slack()
    cubes: dict[str, tuple[str, ...]] = {}
    """Cubes of your own, beside the standard ones: {keyword: [campaign_id, keyword]}."""
    rules: list[dict[str, Any]] = []
    """Alert rules of your own or changes to the standard ones; see docs/rules.md."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """How much the processes say on standard error."""

    @field_validator("cubes")
    @classmethod
    def _known_dimensions(cls, cubes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, dimensions in cubes.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
                raise ValueError(f"{name!r}: a cube's name is lower-case letters, digits and underscores")
            if name in DEFAULT_CUBES:
                raise ValueError(f"{name}: this name belongs to a standard cube")
            for dimension in dimensions:
                if dimension not in DIMENSIONS:
                    raise ValueError(f"{name}: unknown dimension {dimension!r}; there are {', '.join(DIMENSIONS)}")
            if len(set(dimensions)) != len(dimensions) or not dimensions:
                raise ValueError(f"{name}: name each dimension once, and at least one")
        return cubes

    @model_validator(mode="after")
    def _erased_outlive_the_log(self) -> Settings:
        if self.erased_keep_hours < self.kafka.retention_hours:
            raise ValueError(
                f"privacy.erased_keep_days: {self.privacy.erased_keep_days} days are shorter than kafka.retention_hours, "
                f"{self.kafka.retention_hours} h, so the log could bring erased users back; leave it out and it follows that setting"
            )
        return self

    @model_validator(mode="after")
    def _metric_cubes_exist(self) -> Settings:
        for cube, windows in self.streams.metric_cubes.items():
            if cube not in self.all_cubes:
                raise ValueError(f"streams.metric_cubes: unknown cube {cube!r}; there are {', '.join(self.all_cubes)}")
            for window in windows:
                if not re.fullmatch(r"[1-9][0-9]{0,3}[smhd]", window):
                    raise ValueError(f"streams.metric_cubes: {cube}: {window!r} is not a window such as 5m or 1h")
        return self

    @property
    def all_cubes(self) -> dict[str, tuple[str, ...]]:
        """The standard cubes and the operator's own: name -> dimensions."""
        return {**DEFAULT_CUBES, **self.cubes}

    @property
    def erased_keep_hours(self) -> int:
        """How long an erased user stays on the list of erased ones."""
        days = self.privacy.erased_keep_days
        return self.kafka.retention_hours + _DELETED_LATE if days is None else days * 24

    def topic(self, topic: Topic) -> str:
        """Full name of a topic, `marketing.clicks`."""
        return f"{self.kafka.topic_prefix}.{topic.value}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Pydantic's hook: where values come from, the strongest first."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = with_files(env_settings.env_vars, cls, ENV_PREFIX)
        # The file's content comes in as init values; the environment must win over it.
        return env_settings, init_settings


def _environment() -> Iterator[tuple[str, str, str]]:
    """Variables that are meant for settings: name, section (lower case), value."""
    for name, value in sorted(os.environ.items()):
        if name.upper().startswith(ENV_PREFIX):
            section, nested, _ = name[len(ENV_PREFIX) :].lower().partition("__")
            # Without nesting it may be somebody else's: CAMPAIGNWATCH_VERSION of the compose file.
            if nested or section in Settings.model_fields:
                yield name, section, value


def _refuse_unknown_sections() -> None:
    """Raise ConfigError for a variable whose section does not exist: pydantic would pass over it."""
    for name, section, _ in _environment():
        if section not in Settings.model_fields:
            close = difflib.get_close_matches(section, Settings.model_fields, 1)
            meant = f"did you mean {ENV_PREFIX}{close[0].upper()}__...?" if close else f"there are {', '.join(Settings.model_fields)}"
            raise ConfigError(f"{name} in the environment: there is no section {section}; {meant}")


def _no_json() -> list[str]:
    """Variables of settings that are lists or tables, whose value is not JSON. Their values are not shown: they may be anything."""
    found = []
    for name, _, value in _environment():
        default: Any = Settings.model_construct()
        for part in name[len(ENV_PREFIX) :].lower().split("__"):
            default = getattr(default, part, None)
        try:
            json.loads(value)
        except ValueError as error:
            if isinstance(default, dict | list | tuple):
                found.append(f"{name} ({error})")
    return found


def _where(error: Exception) -> str:
    """Where a file stops being YAML and why, without its words: they may be a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ": " + re.sub(r"b?'.*'", "...", str(error), flags=re.DOTALL)
    problem = re.sub(r"'[^']{2,}'", "...", getattr(error, "problem", None) or "cannot be read")
    return f", line {mark.line + 1}, column {mark.column + 1}: {problem}"


def load(path: Path | None = None) -> Settings:
    """Read the settings from `path` (YAML, optional) and the environment.

    Raises ConfigError, with file, key and reason, when they cannot be used; SecretError when a secret cannot be had.
    """
    content: Any = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not valid YAML{_where(error)}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: the file must hold sections such as `kafka:` and `redis:`")
        for name in content:
            if not isinstance(name, str):
                raise ConfigError(f"{path}: a section must be one of {', '.join(Settings.model_fields)}")
        warn_of_file(path, content, Settings, ENV_PREFIX)
    _refuse_unknown_sections()
    try:
        return Settings(**content)
    except SettingsError as error:
        raise ConfigError(f'in the environment: {", ".join(_no_json()) or error}: not JSON; write it like {{"EUR": "1.0842"}}') from error
    except ValidationError as error:
        source = f"{path} or {ENV_PREFIX}* in the environment" if path else f"{ENV_PREFIX}* in the environment"
        lines = [f"  {'.'.join(map(str, e['loc'])) or '(top)'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{source}:\n" + "\n".join(lines)) from error
