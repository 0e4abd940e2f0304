"""What redis.* settings mean to the client, and that no message shows a login."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis as Client
from redis.exceptions import ClusterError, RedisClusterException, RedisError

from streams.config import Redis, Settings
from streams.errors import UserError
from streams.redis_client import connect, shown
from streams.redis_cluster import ClusterClient
from streams.redis_errors import as_redis_errors


def of(**section: Any) -> Settings:
    return Settings(redis=Redis(**section))


def login(settings: Settings) -> tuple[Any, Any]:
    options = connect(settings).connection_pool.connection_kwargs
    return options.get("username"), options.get("password")


def test_the_settings_own_login_wins_over_the_urls() -> None:
    assert login(of(url="redis://ann:one@h:1/0")) == ("ann", "one")
    assert login(of(url="redis://ann:one@h:1/0", password="t/w@:o")) == ("ann", "t/w@:o")
    assert login(of(url="redis://ann:one@h:1/0", username="bob", password="two")) == ("bob", "two")
    assert login(of(url="redis://h:1/0", password="two")) == (None, "two")
    assert login(of(url="redis://h:1/0")) == (None, None)
    socket = of(url="unix:///run/redis.sock?db=2", password="two")
    assert login(socket) == (None, "two")
    assert connect(socket).connection_pool.connection_kwargs["path"] == "/run/redis.sock"


@pytest.mark.parametrize(
    "url",
    ["redis://ann:secret@h:1/0", "redis://:secret@a:1,b:2/0", "redis://h:1/0?password=secret", "ann:secret@h", "redis://:sec@secret@h/0"],
)
def test_a_login_is_not_shown(url: str) -> None:
    settings = of(url=url)
    assert "secret" not in shown(settings)
    assert "h" in shown(settings) or "a:1,b:2" in shown(settings)
    assert "secret" not in repr(of(password="secret"))


def test_what_is_no_redis_url_is_refused_without_its_password() -> None:
    for url in ("http://:secret@h", "redis://:secret@h:port", "redis://:secret@[h"):
        with pytest.raises(UserError, match=r"redis\.url.*should look like redis://127") as refused:
            connect(of(url=url))
        assert "secret" not in str(refused.value)


def test_several_nodes_make_a_cluster_and_each_is_a_way_in() -> None:
    client: Any = connect(of(url="redis://ann:one@a:1,b:2/0"))
    assert isinstance(client, ClusterClient)
    assert sorted(node.name for node in client.startup_nodes) == ["a:1", "b:2"]
    assert {(node.connection_kwargs["username"], node.connection_kwargs["password"]) for node in client.startup_nodes} == {("ann", "one")}
    assert isinstance(connect(of(url="redis://a:1/0", cluster=True)), ClusterClient)
    assert isinstance(connect(of(url="redis://a:1/0")), Client)
    with pytest.raises(UserError, match="a cluster has database 0 only"):
        connect(of(url="redis://a:1/3", cluster=True))


def test_tls_settings_need_tls_and_files_that_exist(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ValidationError, match="there is no file"):
        Redis(url="rediss://h", ca_file=file)
    file.write_text("")
    with pytest.raises(ValidationError, match="is for TLS, which starts with rediss://"):
        Redis(url="redis://h", ca_file=file)
    with pytest.raises(ValidationError, match="set cert_file too"):
        Redis(url="rediss://h", key_file=file)
    options = connect(of(url="rediss://h", ca_file=file, check_hostname=False)).connection_pool.connection_kwargs
    assert (options["ssl_ca_certs"], options["ssl_check_hostname"]) == (str(file), False)


async def test_a_cluster_of_which_nothing_answers_is_a_redis_error() -> None:
    client = connect(of(url="redis://127.0.0.1:1,127.0.0.1:2/0", timeout=0.5))
    for _ in range(2):
        with pytest.raises(ClusterError):
            await client.get("x")
        pipe: Any = client.pipeline(transaction=True)
        with pytest.raises(RedisError):
            await pipe.get("x").execute()
    await client.aclose()


@pytest.mark.parametrize("error", [AttributeError("'NoneType' object has no attribute 'writelines'"), RedisClusterException("no node")])
def test_whatever_comes_out_of_a_client_whose_connections_break_is_a_redis_error(error: Exception) -> None:
    with pytest.raises(RedisError) as raised, as_redis_errors():
        raise error
    assert raised.value.__cause__ is error
    assert str(error) in str(raised.value)
