"""Settings: where they come from, what wins, and how a wrong one is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from streams.config import ConfigError, Kafka, Privacy, Settings, SpendSource, Topic, load


def write(directory: Path, text: str) -> Path:
    path = directory / "campaignwatch.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold() -> None:
    settings = load()
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.topic(Topic.CLICKS) == "marketing.clicks"
    assert settings.money.reporting_currency == "USD"
    assert settings.streams.dedupe_horizon == 3600
    assert list(settings.all_cubes) == [
        "total",
        "account",
        "campaign",
        "channel",
        "platform",
        "region",
        "campaign_channel",
        "campaign_creative",
        "channel_segment",
        "experiment_variant",
    ]


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "kafka: {bootstrap_servers: 'file:1', topic_prefix: file}\nmoney: {rates: {EUR: '1.0842'}}\n")
    monkeypatch.setenv("CAMPAIGNWATCH_KAFKA__BOOTSTRAP_SERVERS", "environment:1")
    monkeypatch.setenv("CAMPAIGNWATCH_STREAMS__HTTP_PORT", "0")

    settings = load(path)

    assert settings.kafka.bootstrap_servers == "environment:1"
    assert settings.topic(Topic.SPEND) == "file.spend"
    assert settings.streams.http_port == 0
    assert settings.money.rates == {"EUR": Decimal("1.0842")}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_SLACK__BOT_TOKEN", "xoxb-secret")
    settings = load()
    assert settings.slack.bot_token is not None
    assert settings.slack.bot_token.get_secret_value() == "xoxb-secret"
    assert "xoxb-secret" not in repr(settings)


def test_an_empty_file_is_no_error(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")) == load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kafka: {bootstrap: x}", r"kafka\.bootstrap: Extra inputs are not permitted"),
        ("kafka: {partitions: 0}", r"kafka\.partitions: Input should be greater than or equal to 1"),
        ("kafka: {topic_prefix: 'a b'}", r"kafka\.topic_prefix: String should match"),
        ("money: {rates: {EUR: 1.0842}}", r'money\.rates: .*EUR: write the rate as a string \("1\.0842"\)'),
        ("money: {rates: {eur: '1'}}", r"eur: a currency is three capital letters"),
        ("money: {rates: {EUR: '-1'}}", r"EUR: the rate must be above 0"),
        ("money: {rates: {EUR: NaN}}", r"money\.rates"),
        ("money: {spend_sources: {meta: guess}}", r"money\.spend_sources\.meta: Input should be 'events' or 'reports'"),
        ("cubes: {campaign: [campaign_id]}", r"campaign: this name belongs to a standard cube"),
        ("cubes: {users: [user_id]}", r"users: unknown dimension 'user_id'; there are campaign_id, channel"),
        ("cubes: {twice: [region, region]}", r"twice: name each dimension once"),
        ("streams: {ladder: []}", r"ladder: at least one pane"),
        ("streams: {ladder: [{size: 70, keep: 3600}]}", r"ladder: a pane of 70 s does not divide a day"),
        ("streams: {ladder: [{size: 60, keep: 3600}, {size: 10, keep: 3600}]}", r"10 s is not a larger multiple of 60 s"),
        ("streams: {ladder: [{size: 10, keep: 3600}, {size: 60, keep: 60}]}", r"must be kept at least as long"),
        ("log_level: LOUD", r"log_level: Input should be 'DEBUG'"),
        ("- a list", r"the file must hold sections such as `kafka:`"),
        ("kafka: {", r"not valid YAML"),
    ],
)
def test_what_cannot_be_is_refused_with_file_key_and_reason(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"log_level: \xff")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not valid YAML"):
        load(tmp_path / "latin.yaml")


def test_a_wrong_environment_variable_is_named_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_KAFKA__PARTITIONS", "many")
    with pytest.raises(ConfigError, match=r"CAMPAIGNWATCH_\* in the environment:\n  kafka\.partitions: Input should be a valid integer"):
        load()


def test_a_variable_of_no_section_is_refused_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_MONY__RATES", "{}")
    with pytest.raises(ConfigError, match=r"CAMPAIGNWATCH_MONY__RATES in the environment: .* did you mean CAMPAIGNWATCH_MONEY__"):
        load()


def test_a_variable_of_somebody_elses_is_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_VERSION", "0.1.0")
    assert load().log_level == "INFO"


def test_a_structured_variable_that_is_no_json_is_named_and_no_secret_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_REDIS__URL", "redis://:hidden@127.0.0.1:6379/0")
    monkeypatch.setenv("CAMPAIGNWATCH_MONEY__RATES", "{EUR: 1}")
    with pytest.raises(ConfigError, match=r"CAMPAIGNWATCH_MONEY__RATES \(.*\): not JSON") as refused:
        load()
    assert "hidden" not in str(refused.value)
    assert "REDIS" not in str(refused.value)


def test_the_reporting_currency_has_no_rate_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="USD is the reporting currency"):
        load(write(tmp_path, 'money: {rates: {USD: "2"}}'))
    assert load(write(tmp_path, 'money: {rates: {USD: "1.0"}}')).money.rates == {"USD": Decimal("1.0")}


def test_a_platform_can_take_its_spend_from_reports(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "money: {spend_sources: {meta: reports}}"))
    assert settings.money.spend_sources == {"meta": SpendSource.REPORTS}


def test_own_cubes_stand_beside_the_standard_ones(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "cubes: {keyword: [campaign_id, keyword]}"))
    assert settings.all_cubes["keyword"] == ("campaign_id", "keyword")
    assert settings.all_cubes["total"] == ()


def test_erased_users_are_remembered_for_as_long_as_the_log_may_bring_them_back() -> None:
    assert Settings().erased_keep_hours == 168 + 8 * 24
    assert Settings(kafka=Kafka(retention_hours=9_000)).erased_keep_hours == 9_000 + 8 * 24
    assert Settings(privacy=Privacy(erased_keep_days=30)).erased_keep_hours == 720
    with pytest.raises(ValidationError, match="6 days are shorter than kafka"):
        Settings(privacy=Privacy(erased_keep_days=6))
