"""Compiles every loop of a worker, or loads what was compiled before: `python -m streams.ingest.warm_up` in an image that is built."""

from __future__ import annotations

import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.compiled import MANY
from streams.config import Money, Topic
from streams.ingest.decode import Decoder
from streams.ingest.dedupe import Seen, digests
from streams.ingest.grouping import numbered, sum_by
from streams.ingest.texts import Texts
from streams.ingest.users import user_hasher
from streams.tables.chunks import CHUNK, pack_all
from streams.tables.opentables import _OpenCube
from streams.tables.sketchlogs import ReachLog
from streams.transport.record_batches import records_of

_EVENT = b"""{"event_id": "e-1", "occurred_at": "2026-01-01T00:00:00Z", "campaign_id": "c-1", "channel": "search", "kind": "view",
 "user_id": "u-1", "cost": "0.42", "dwell_ms": 1, "rating": 4.5, "landing_page": "\\u00e9", "more": [{}]}"""


def warm_up() -> None:
    """Take one event through everything that is compiled."""
    for size in (1, MANY):
        builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 30)
        for i in range(size):
            builder.append(i, 0, b"c-1", _EVENT, [])
        records, _ = records_of(bytes(builder.build()), 0)
    columns, _ = Decoder(Topic.ENGAGEMENTS, Money()).decode(records[:1])
    user_hasher("")(Texts.of(["u-1"]))
    seen = Seen(0)
    seen.admit(columns.event_id, columns.record_time)
    seen.load((0, 0), np.column_stack((digests(["e-2"]), np.zeros(1, np.uint64))))
    seen.forget(1)
    for size in (MANY // 4, MANY):
        ones = np.ones(size, np.int64)
        sum_by(numbered(ones)[0], ones, 1)
        # What is added after the load makes a large table move, too.
        ReachLog(np.arange(size, dtype=np.uint64)).add(np.arange(2 * size, dtype=np.uint64))
        _OpenCube().add(np.zeros(size, np.int64), ("clicks",), ones[None])
        pack_all({"clicks": ones}, range(len(ones) // CHUNK + 1))


if __name__ == "__main__":
    warm_up()
