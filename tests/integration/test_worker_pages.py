"""The pages of a worker are served by a process of their own, which lives and dies with its worker."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from urllib.request import Request, urlopen

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.config import Settings, Streams, Topic
from tests.integration.conftest import CreateTopics
from tests.integration.processes import run
from tests.integration.workers import Worker, applied, get, rows, send, until, worker


def pages_of(one: Worker) -> int:
    """The process id of a worker's pages."""
    children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text("ascii").split()
    assert len(children) == 1, children
    return int(children[0])


def exists(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False


def metrics(url: str, accept: str) -> str:
    with urlopen(Request(f"{url}/metrics", headers={"Accept": accept}), timeout=10) as answer:
        return str(answer.read().decode())


async def test_the_metrics_of_worker_and_pages_are_one_exposition(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    await make_topics(settings)
    sent = await send(settings, Topic.CLICKS, [{"event_id": "1", "occurred_at": 1_790_000_000_000, "campaign_id": "c-1"}])
    with worker(settings, tmp_path) as one:
        await applied(one.url, sent)
        said = metrics(one.url, "application/openmetrics-text; version=1.0.0")
        assert said.endswith("# EOF\n") and said.count("# EOF") == 1
        names = [family.name for family in text_string_to_metric_families(said)]  # type: ignore[no-untyped-call]
        assert len(names) == len(set(names))
        # Of the worker, of the tables, of the pages.
        assert {"campaignwatch_visible_seconds", "campaignwatch_kpi", "campaignwatch_http_connections"} <= set(names)


async def test_ingest_stands_back_for_the_pages(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    await make_topics(settings)
    with worker(settings, tmp_path) as one:
        of_pages, of_worker = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (pages_of(one), one.process.pid))
        assert of_worker == min(19, of_pages + settings.streams.nice) > of_pages


async def test_an_accept_header_that_cannot_be_read_costs_nobody_the_metrics(
    settings: Settings, make_topics: CreateTopics, tmp_path: Path
) -> None:
    await make_topics(settings)
    with worker(settings, tmp_path) as one:
        for accept in ("text/plain;version=x", "application/openmetrics-text; version=", ";;;=,q=1"):
            assert "# TYPE campaignwatch_events" in metrics(one.url, accept)
        assert get(f"{one.url}/healthz")[0] == 200


async def test_pages_without_a_worker_end(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    await make_topics(settings)
    with worker(settings, tmp_path) as one:
        pages = pages_of(one)
        one.kill()
        await until(lambda: exists(pages), lambda found: not found, timeout=10)
        with socket.create_server(("127.0.0.1", int(one.url.rpartition(":")[2]))):
            pass


async def test_a_worker_without_pages_ends_and_has_lost_nothing(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    await make_topics(settings)
    with worker(settings, tmp_path) as one:
        os.kill(pages_of(one), signal.SIGKILL)
        assert one.process.wait(30) == 1
        assert "the process that serves the pages ended by itself" in one.said()
    sent = await send(settings, Topic.CLICKS, [{"event_id": "1", "occurred_at": 1_790_000_000_000, "campaign_id": "c-1"}])
    with worker(settings, tmp_path) as two:
        await applied(two.url, sent)


async def test_of_a_worker_that_stands_still_the_pages_tell(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"streams": Streams(http_port=0, stuck_after=4.0)})
    await make_topics(settings)
    with worker(settings, tmp_path) as one:
        one.pause()
        assert (await until(lambda: get(f"{one.url}/readyz"), lambda found: found[0] == 503))[1]["alive"], "it may be busy only"
        _, content = await until(lambda: get(f"{one.url}/healthz"), lambda found: found[0] == 503)
        assert content["details"]["silent_seconds"] >= 4.0
        assert get(f"{one.url}/metrics")[0] == 503
        # The tables are there all the same.
        assert rows(one.url, "total", window="5m") == {}
        one.resume()
        await until(lambda: get(f"{one.url}/readyz")[0], lambda found: found == 200)
        assert one.stop() == 0


async def test_a_port_that_is_taken_ends_the_worker_with_a_sentence(settings: Settings, make_topics: CreateTopics, tmp_path: Path) -> None:
    await make_topics(settings)
    with worker(settings, tmp_path) as one:
        port = int(one.url.rpartition(":")[2])
        again = tmp_path / "again.yaml"
        again.write_text(one.config.read_text("utf-8").replace("http_port: 0", f"http_port: {port}"), encoding="utf-8")
        found = run(again, "streams")
        assert found.returncode == 2
        assert f"cannot be served on 127.0.0.1:{port}: another process listens there" in found.stderr
