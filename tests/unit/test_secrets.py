"""Secrets come from the environment or from files, and no message repeats one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config import ENV_PREFIX, ConfigError, Settings, load
from streams.secrets import SecretError, secrets, shown_url

SECRETS = {secret.key: secret for secret in secrets(Settings)}


def test_these_settings_are_secret() -> None:
    assert {"privacy.user_key", "slack.webhook_url", "slack.bot_token", "http.token", "http.password", "redis.url"} <= SECRETS.keys()
    assert not {"slack.channel", "http.username", "kafka.bootstrap_servers"} & SECRETS.keys()


@pytest.mark.parametrize("key", sorted(SECRETS))
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["none", "lf", "crlf"])
def test_every_secret_can_come_from_a_file(key: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_bytes(f"redis://:hidden-in-file@h:1/0{ending}".encode())
    monkeypatch.setenv(SECRETS[key].variable(ENV_PREFIX) + "_FILE", str(file))
    for name in ("SECURITY_PROTOCOL=SASL_SSL", "SASL_USERNAME=u", "SASL_PASSWORD=p") if key.startswith("kafka.") else ():
        if name != "SASL_PASSWORD=p" or key != "kafka.sasl_password":
            monkeypatch.setenv(f"CAMPAIGNWATCH_KAFKA__{name.partition('=')[0]}", name.partition("=")[2])
    settings = load()
    value: object = settings
    for part in SECRETS[key].path:
        value = getattr(value, part)
    given = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    assert given == "redis://:hidden-in-file@h:1/0"
    assert "hidden" not in repr(settings)


def test_only_the_last_line_end_is_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(" two\nlines \n\n", "utf-8")
    monkeypatch.setenv("CAMPAIGNWATCH_PRIVACY__USER_KEY_FILE", str(tmp_path / "key"))
    assert load().privacy.user_key.get_secret_value() == " two\nlines \n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"hidden\xff", "is no text"), (b"hidden" * 20_000, "is larger")],
    ids=["absent", "empty", "blank", "bytes", "large"],
)
def test_a_file_that_cannot_be_a_secret_is_named(
    content: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("CAMPAIGNWATCH_HTTP__TOKEN_FILE", str(file))
    with pytest.raises(SecretError, match=reason) as refused:
        load()
    assert str(refused.value).startswith(f"CAMPAIGNWATCH_HTTP__TOKEN_FILE: {file}")
    assert "hidden" not in str(refused.value)


def test_a_directory_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_SLACK__BOT_TOKEN_FILE", str(tmp_path))
    with pytest.raises(SecretError, match=r"cannot be read: Is a directory"):
        load()


def test_a_secret_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("hidden-in-the-file", "utf-8")
    monkeypatch.setenv("CAMPAIGNWATCH_HTTP__TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("CAMPAIGNWATCH_HTTP__TOKEN", "hidden-in-the-environment")
    with pytest.raises(SecretError, match="CAMPAIGNWATCH_HTTP__TOKEN and CAMPAIGNWATCH_HTTP__TOKEN_FILE are both set") as refused:
        load()
    assert "hidden" not in str(refused.value)


def test_what_is_no_secret_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGNWATCH_SLACK__CHANNEL_FILE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"slack\.channel_file: Extra inputs are not permitted"):
        load()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("slack: {bot_token: xoxb-hidden}", "slack.bot_token"),
        ("privacy: {user_key: hidden}", "privacy.user_key"),
        ("redis: {url: 'redis://:hidden@h:6379/0'}", "redis.url"),
        ("redis: {url: 'redis://h:6379/0?password=hidden'}", "redis.url"),
        ("http: {username: ann, password: hidden-for-long}", "http.password"),
    ],
)
def test_a_settings_file_that_others_can_read_should_not_hold_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, key: str
) -> None:
    path = tmp_path / "campaignwatch.yaml"
    path.write_text(text, "utf-8")
    path.chmod(0o644)
    load(path)
    assert key in caplog.text and SECRETS[key].variable(ENV_PREFIX) in caplog.text
    assert "hidden" not in caplog.text
    caplog.clear()
    path.chmod(0o600)
    load(path)
    assert caplog.text == ""


def test_an_address_without_a_password_may_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "campaignwatch.yaml"
    path.write_text("redis: {url: 'redis://h:6379/1'}\nslack: {bot_token: null}", "utf-8")
    assert load(path).redis.url == "redis://h:6379/1"


@pytest.mark.parametrize("text", ["a: 'hidden", "a: *hidden", "a: !hidden b", "a: [hidden", "hidden: b: c", "a: hidden\n\tb", "a: @hidden"])
def test_a_file_that_is_no_yaml_is_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "campaignwatch.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"not valid YAML, line \d+, column \d+: ") as refused:
        load(path)
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTP__TOKEN", "hidden"), ("HTTP__TOKEN", "hidden with a space"), ("SLACK", "xoxb-hidden"), ("REDIS", '{"uri": "hidden"}')],
)
def test_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(ENV_PREFIX + variable, value)
    with pytest.raises(ConfigError) as refused:
        load()
    error: BaseException | None = refused.value
    while error is not None:
        assert "hidden" not in str(error)
        error = error.__cause__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://ann:hidden@h:6379/0", "rediss://***@h:6379/0"),
        ("redis://:hid@den@h/0", "redis://***@h/0"),
        ("redis://:hid/den@h", "redis://***"),
        ("redis://h/0?password=hidden", "redis://h/0"),
        ("redis://h/0?password=hid@den", "redis://***"),
        ("unix://:hidden@/run/redis.sock", "unix://***@/run/redis.sock"),
        (":hidden@h", "***@h"),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@given(password=st.text(min_size=8), place=st.sampled_from(["h:6379/0", "h", "[::1]:1/0", ""]))
def test_no_password_is_ever_shown(password: str, place: str) -> None:
    assert password not in shown_url(f"redis://:{password}@{place}")


def test_the_environment_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("hidden-in-the-file", "utf-8")
    monkeypatch.setenv("CAMPAIGNWATCH_HTTP__TOKEN_FILE", str(tmp_path / "token"))
    load()
    assert "CAMPAIGNWATCH_HTTP__TOKEN" not in os.environ
