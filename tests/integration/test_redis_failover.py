"""A Redis that is replaced by its replica behind one name, as managed services do it."""

from __future__ import annotations

from streams.config import Redis, Settings
from streams.embedded import EmbeddedRedis
from streams.redis_client import connect
from tests.integration.conftest import client_of
from tests.integration.proxies import Proxy


async def test_a_primary_that_has_become_a_replica_is_left_for_the_new_one() -> None:
    """It answers on and refuses to be written to: only a new connection finds its successor."""
    with EmbeddedRedis() as old, EmbeddedRedis() as new, Proxy(old.port) as name:
        client = connect(Settings(redis=Redis(url=f"redis://127.0.0.1:{name.port}/0", timeout=2.0)))
        await client.set("before", "1")
        async with client_of(old.url) as there:
            await there.replicaof("127.0.0.1", str(new.port))
        name.lead_to(new.port)
        await client.set("after", "2")
        script = client.register_script("redis.call('SET', KEYS[1], ARGV[1]) return 'done'")
        assert await script(keys=["by_script"], args=["3"]) == b"done"
        async with client_of(new.url) as there:
            assert [await there.get(key) for key in ("after", "by_script")] == [b"2", b"3"]
        await client.aclose()
