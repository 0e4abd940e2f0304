"""The README's own words, run: the first event in Python and with Kafka's command line tool arrive as valid events."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from streams.config import Settings, Topic
from streams.embedded.apache_kafka import java, libraries
from streams.events.models import Click
from streams.events.parsing import parse
from tests.unit.test_readme import readme_block


async def run(*command: str | Path) -> None:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr


async def arrived(settings: Settings) -> Click:
    """The first click of the topic, judged as a worker judges it, with its key."""
    consumer = AIOKafkaConsumer(
        settings.topic(Topic.CLICKS), bootstrap_servers=settings.kafka.bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    try:
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert record.key == b"summer-sale"
    click = parse(Topic.CLICKS, record.value, record.key, settings.money)
    assert isinstance(click, Click)
    return click


async def test_the_first_event_in_python_arrives(ready: Settings, tmp_path: Path) -> None:
    code = (
        readme_block("python")
        .replace("127.0.0.1:9092", ready.kafka.bootstrap_servers)
        .replace("marketing.", f"{ready.kafka.topic_prefix}.")
    )
    (tmp_path / "first.py").write_text(code, "utf-8")
    await run(sys.executable, tmp_path / "first.py")
    click = await arrived(ready)
    assert (click.campaign_id, click.channel, click.platform, click.cost) == ("summer-sale", "search", "google", Decimal("0.42"))


@pytest.mark.apache
async def test_the_first_event_with_kafkas_command_line_tool_arrives(ready: Settings) -> None:
    command = readme_block("console")
    # The same tool, on this machine instead of in the container.
    here = f"{java()} -cp '{libraries()}/*' org.apache.kafka.tools.ConsoleProducer"
    for there, instead in {
        "docker compose exec -T kafka /opt/kafka/bin/kafka-console-producer.sh": here,
        "kafka:19092": ready.kafka.bootstrap_servers,
        "marketing.": f"{ready.kafka.topic_prefix}.",
    }.items():
        assert there in command
        command = command.replace(there, instead)
    await run("sh", "-c", command)
    click = await arrived(ready)
    assert (click.event_id, click.campaign_id, click.cost) == ("first-1", "summer-sale", Decimal("0.42"))
