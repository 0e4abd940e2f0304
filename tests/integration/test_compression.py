"""Producers compress as they like: whatever codec a batch came with, its events are counted."""

from __future__ import annotations

import json
from pathlib import Path

from aiokafka import AIOKafkaProducer

from streams.config import Settings, Topic
from streams.kafka import connection
from tests.integration.test_breaks import total_clicks
from tests.integration.test_workers import now_ms
from tests.integration.workers import applied, ledger, worker

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
EACH = 300


async def test_events_of_every_codec_are_counted(one_partition: Settings, tmp_path: Path) -> None:
    for codec in CODECS:
        async with AIOKafkaProducer(**connection(one_partition.kafka), compression_type=codec, linger_ms=50) as producer:
            for number in range(EACH):
                event = {"event_id": f"{codec}-{number}", "occurred_at": now_ms(), "campaign_id": "c-1", "channel": "search"}
                await producer.send(one_partition.topic(Topic.CLICKS), json.dumps(event).encode(), key=b"c-1")
    with worker(one_partition, tmp_path) as one:
        await applied(one.url, EACH * len(CODECS))
        assert total_clicks(one.url) == EACH * len(CODECS)
        assert ledger(one.url).balanced
