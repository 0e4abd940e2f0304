"""The ceiling: aiokafka fetches everything with the settings of a Campaignwatch worker, and nothing is done with it but counting."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

from bench.contenders.reporting import Progress, task, write_answer

#: As a worker's own consumer has them; tests/unit/test_bench_peers.py holds the two together.
FETCH = {"fetch_max_wait_ms": 50, "max_partition_fetch_bytes": 1024 * 1024, "check_crcs": True, "max_poll_records": None}


async def main() -> None:
    job = task()
    progress = Progress(job)
    consumer = AIOKafkaConsumer(job.topic, bootstrap_servers=job.bootstrap_servers, group_id=None, auto_offset_reset="earliest", **FETCH)
    await consumer.start()
    try:
        while progress.events < job.events:
            fetched = await consumer.getmany(timeout_ms=1000)
            if fetched:
                progress.started()
            progress.add(sum(len(records) for records in fetched.values()))
        progress.finished()
        write_answer(job.answer, [])
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
