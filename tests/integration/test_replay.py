"""Recorded data, replayed through Kafka, the streams worker and Redis, gives what the dataframe library computes from the file."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.config import EVENT_TOPICS, Kafka, Money, Settings, SpendSource, Streams, Topic
from streams.config import Redis as RedisSection
from streams.replay.playing import DAY_MS
from streams.tables.reader import TableReader
from streams.topics import create_topics
from tests.integration.conftest import Broker, RedisServer, client_of
from tests.integration.processes import command, run, running, settings_file
from tests.unit.test_readme import readme_block

HOUR_MS = 3_600_000
#: Of the ad server's half year, this many impressions are replayed: a worker of a test need not count 25 million.
TABMO_IMPRESSIONS = 60_000

Cells = dict[tuple[str, int], dict[str, int]]


@dataclass(frozen=True)
class Replayed:
    """What has been replayed, and where to read it."""

    settings: Settings
    config: Path
    #: Mapping -> what the command said.
    said: dict[str, str]
    #: Mapping -> milliseconds that its times were moved by.
    shift: dict[str, int]
    tabmo: Path
    data: Path

    def cells(self, expected: Cells, step: int, measures: list[str]) -> Cells:
        """What the tables hold for the campaigns of `expected`: (campaign, start of step) -> measure -> value, empty steps left out."""

        async def read() -> Cells:
            redis = client_of(self.settings.redis.url)
            try:
                first, last = min(at for _, at in expected) - 2 * step, max(at for _, at in expected) + 3 * step
                series = await TableReader(redis, self.settings).series("campaign", first, last, step, measures=measures)
            finally:
                await redis.aclose()
            campaigns = {campaign for campaign, _ in expected}
            found: Cells = {}
            for row, (campaign,) in enumerate(series.rows):
                for at, time_ms in enumerate(series.times.tolist()):
                    values = {measure: int(series.measures[measure][row, at]) for measure in measures}
                    if campaign in campaigns and any(values.values()):
                        found[str(campaign), time_ms] = values
            return found

        return asyncio.run(read())


@pytest.fixture(scope="module")
def settings(broker: Broker, redis_server: RedisServer) -> Settings:
    unique = uuid.uuid4().hex[:8]
    return Settings(
        kafka=Kafka(bootstrap_servers=broker.bootstrap_servers, topic_prefix=f"t-{unique}", partitions=2, session_timeout=6.0),
        redis=RedisSection(url=redis_server.url, namespace=f"t-{unique}"),
        streams=Streams(http_port=0),
        money=Money(spend_sources={"snapchat": SpendSource.REPORTS}),
    )


@pytest.fixture(scope="module")
def replayed(settings: Settings, recorded_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    """All recorded files replayed, one command each, and applied by one worker."""
    directory = tmp_path_factory.mktemp("replayed")
    data = recorded_data / "recorded"
    # Parquet has types where CSV has text.
    tabmo = directory / "tabmo-part.parquet"
    _part_of_tabmo(data / "tabmo-adcampaign.csv.gz").write_parquet(tabmo)
    files = {
        "open-bandit": data / "open-bandit-small.csv.gz",
        "snapchat": data / "snapchat-ad-hour.csv.gz",
        "tabmo": tabmo,
        "otto": data / "otto-sample.jsonl.gz",
    }
    for name in ("history.csv", "history.yaml"):
        (directory / name).write_text(readme_block(name), "utf-8")
    files[str(directory / "history.yaml")] = directory / "history.csv"
    asyncio.run(create_topics(settings))
    config = settings_file(directory, settings)
    with running(config, directory / "worker.log", "streams", cwd=directory):

        def play(mapping: str) -> str:
            state = directory / f"{Path(mapping).stem}.json"
            done = run(config, "replay", files[mapping], "--mapping", mapping, "--shift-to-now", "--state", state)
            assert done.returncode == 0, done.stderr
            return done.stderr

        with ThreadPoolExecutor(2) as pool:
            said = dict(zip([Path(mapping).stem for mapping in files], pool.map(play, files), strict=True))
        sent = sum(int(text.split("Sent ")[1].split(" events")[0].replace(",", "")) for text in said.values())
        shift = {name: int(text.split("moved by ")[1].split(" days")[0].replace(",", "")) * DAY_MS for name, text in said.items()}
        _wait_until_applied(settings, sent, directory / "worker.log")
        yield Replayed(settings, config, said, shift, tabmo, data)


def _part_of_tabmo(path: Path) -> pl.DataFrame:
    """The last three weeks of as many small campaigns as make TABMO_IMPRESSIONS."""
    rows = pl.read_csv(path, try_parse_dates=True)
    rows = rows.filter(pl.col("day") > pl.col("day").max() - pl.duration(days=21))
    small = rows.group_by("campaign").agg(pl.col("impressions").sum()).sort("impressions", "campaign")
    small = small.filter(pl.col("impressions").cum_sum() <= TABMO_IMPRESSIONS)
    part = rows.filter(pl.col("campaign").is_in(small["campaign"].implode()))
    assert part["campaign"].n_unique() > 5
    assert part["clicks"].sum() > 50
    return part


def _wait_until_applied(settings: Settings, sent: int, log: Path, timeout: float = 120) -> None:
    async def ledger() -> tuple[int, int]:
        redis = client_of(settings.redis.url)
        try:
            entries = await TableReader(redis, settings).ledger()
        finally:
            await redis.aclose()
        return sum(entry.read for entry in entries), sum(entry.applied for entry in entries)

    deadline = time.monotonic() + timeout
    while (counts := asyncio.run(ledger())) != (sent, sent):
        assert time.monotonic() < deadline, f"(read, applied) are {counts} of {sent} after {timeout} s:\n{log.read_text()[-3_000:]}"
        time.sleep(0.2)


def _cells(frame: pl.DataFrame, shift: int) -> Cells:
    """From columns campaign, at (epoch ms) and one per measure."""
    return {
        (str(campaign), at + shift): values
        for campaign, at, *numbers in frame.iter_rows()
        if any((values := dict(zip(frame.columns[2:], numbers, strict=True))).values())
    }


def test_open_bandit_has_every_impression_and_click_of_every_campaign_and_hour(replayed: Replayed) -> None:
    rows = pl.read_csv(replayed.data / "open-bandit-small.csv.gz", infer_schema_length=None)
    at = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z").dt.truncate("1h").dt.epoch("ms").alias("at")
    frame = rows.group_by("campaign", at).agg(pl.len().alias("impressions"), pl.col("click").sum().alias("clicks"))
    expected = _cells(frame, replayed.shift["open-bandit"])
    assert sum(cell["impressions"] for cell in expected.values()) == 40_000
    assert replayed.cells(expected, HOUR_MS, ["impressions", "clicks"]) == expected


def test_snapchat_has_every_impression_swipe_and_micro_of_every_campaign_and_hour(replayed: Replayed) -> None:
    rows = pl.read_csv(replayed.data / "snapchat-ad-hour.csv.gz")
    at = pl.col("date").str.to_datetime("%Y-%m-%d %H:%M:%S%.f").dt.epoch("ms").alias("at")
    frame = rows.group_by("campaign_id", at).agg(
        pl.col("impressions").sum(),
        pl.col("swipes").sum().alias("clicks"),
        pl.col("spend_micros").sum().alias("reported_spend"),
        pl.col("spend_micros").sum().alias("spend"),
    )
    expected = _cells(frame, replayed.shift["snapchat"])
    assert sum(cell["spend"] for cell in expected.values()) == 2_513_448_305
    assert replayed.cells(expected, HOUR_MS, ["impressions", "clicks", "reported_spend", "spend"]) == expected


def test_tabmo_has_every_count_of_every_campaign_and_slot_of_four_hours(replayed: Replayed) -> None:
    rows = pl.read_parquet(replayed.tabmo).with_columns(_slot_start())
    expected = _cells(rows.group_by("campaign", "at").agg(pl.col("impressions").sum(), pl.col("clicks").sum()), replayed.shift["tabmo"])
    assert len(expected) > 300
    assert replayed.cells(expected, 4 * HOUR_MS, ["impressions", "clicks"]) == expected


def test_the_counts_of_a_slot_are_spread_over_its_hours(replayed: Replayed) -> None:
    rows = pl.read_parquet(replayed.tabmo).with_columns(_slot_start())

    def spread(measure: str) -> pl.DataFrame:
        """Each of n events stands at the middle of one of n equal parts of the four hours."""
        events = rows.select("campaign", "at", pl.col(measure).alias("n"), pl.int_ranges(pl.col(measure)).alias("i"))
        events = events.filter(pl.col("n") > 0).explode("i")
        hour = ((2 * pl.col("i") + 1) * 4 // (2 * pl.col("n"))).cast(pl.Int64)
        return events.group_by("campaign", (pl.col("at") + hour * HOUR_MS).alias("at")).agg(pl.len().cast(pl.Int64).alias(measure))

    frame = spread("impressions").join(spread("clicks"), on=["campaign", "at"], how="full", coalesce=True).fill_null(0)
    expected = _cells(frame, replayed.shift["tabmo"])
    assert sum(cell["impressions"] for cell in expected.values()) == rows["impressions"].sum()
    assert replayed.cells(expected, HOUR_MS, ["impressions", "clicks"]) == expected


def _slot_start() -> pl.Expr:
    return (pl.col("day").cast(pl.Datetime("ms")).dt.epoch("ms") + (pl.col("slot") - 1) * 4 * HOUR_MS).alias("at")


def test_otto_has_every_click_cart_and_order_of_every_hour(replayed: Replayed) -> None:
    events = pl.read_ndjson(replayed.data / "otto-sample.jsonl.gz").explode("events").select(pl.col("events").struct.unnest())
    at = (pl.col("ts") // HOUR_MS * HOUR_MS).alias("at")

    def times(kind: str, measure: str) -> pl.Expr:
        return (pl.col("type") == kind).sum().cast(pl.Int64).alias(measure)

    frame = events.group_by(pl.lit("otto").alias("campaign"), at).agg(
        times("clicks", "clicks"), times("carts", "engagements_cart"), times("orders", "conversions_purchase")
    )
    expected = _cells(frame, replayed.shift["otto"])
    assert sum(sum(cell.values()) for cell in expected.values()) == 862
    assert replayed.cells(expected, HOUR_MS, ["clicks", "engagements_cart", "conversions_purchase"]) == expected


def test_the_history_of_the_readme_is_there_and_the_command_that_it_ends_with_shows_it(replayed: Replayed) -> None:
    eight = pl.Series(["2026-11-20 08:00:00"]).str.to_datetime().dt.epoch("ms").item() + replayed.shift["history"]
    expected = {
        ("summer-sale", eight): {"impressions": 1_200, "clicks": 31, "reported_spend": 18_400_000},
        ("newsletter", eight): {"impressions": 300, "clicks": 44, "reported_spend": 0},
        ("summer-sale", eight + HOUR_MS): {"impressions": 1_650, "clicks": 40, "reported_spend": 24_150_000},
    }
    assert replayed.cells(expected, HOUR_MS, ["impressions", "clicks", "reported_spend"]) == expected
    words = replayed.said["history"].split("To see it: campaignwatch ")[1].split(" --config")[0].split()
    shown = run(replayed.config, *words, "--where", "campaign_id:summer-sale", "--json")
    assert shown.returncode == 0, shown.stderr
    (row,) = json.loads(shown.stdout)["rows"]
    assert (row["impressions"], row["clicks"], row["reported_spend"]) == (2_850, 71, 42.55)
    assert "Note: reports of google, mailjet count as `reported_spend`, not as `spend`." in replayed.said["history"]


def test_the_newest_event_is_the_latest_possible_not_in_the_future(replayed: Replayed) -> None:
    for said in replayed.said.values():
        newest = said.split(" to ")[1].split("Z")[0]
        age = time.time() - pl.Series([newest]).str.to_datetime("%Y-%m-%d %H:%M:%S").dt.epoch("s").item()
        # A minute or two have passed since.
        assert 0 <= age < 86_400 + 300


# The command itself.

CLICKS = """
time: {column: ts, unit: s}
columns: {campaign_id: campaign}
constants: {channel: search}
events: [{topic: clicks}]
"""


@pytest.fixture
def prepared(settings: Settings, tmp_path: Path) -> tuple[Settings, Path]:
    """New topics of its own for a test, and the settings' file."""
    own = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"topic_prefix": f"t-{uuid.uuid4().hex[:8]}"})})
    asyncio.run(create_topics(own))
    return own, settings_file(tmp_path, own)


def consumed(settings: Settings, enough: Callable[[int], bool]) -> list[tuple[str, dict[str, object]]]:
    """(key, value) of every event on the broker, read until `enough(how many)` and nothing more comes."""

    async def read() -> list[tuple[str, dict[str, object]]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, auto_offset_reset="earliest", group_id=None)
        await consumer.start()
        try:
            partitions = [TopicPartition(settings.topic(t), n) for t in EVENT_TOPICS for n in range(settings.kafka.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[tuple[str, dict[str, object]]] = []
            deadline = time.monotonic() + 60
            while True:
                fetched = await consumer.getmany(timeout_ms=500)
                found += [(record.key.decode(), json.loads(record.value)) for records in fetched.values() for record in records]
                if not fetched and enough(len(found)):
                    return found
                assert time.monotonic() < deadline, f"{len(found)} events after a minute"
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_unusable_rows_are_named_and_the_rest_is_sent(prepared: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, config = prepared
    (tmp_path / "rows.csv").write_text("ts,campaign\n1700000000,c-1\nsoon,c-2\n1700000002,\n1700000003,c-4,x\n1700000004,c-5\n")
    (tmp_path / "clicks.yaml").write_text(CLICKS)
    words = ("replay", tmp_path / "rows.csv", "--mapping", tmp_path / "clicks.yaml", "--state", tmp_path / "state.json")
    dry = run(config, *words, "--dry-run")
    assert "Nothing was sent" in dry.stderr
    done = run(config, *words)
    assert done.returncode == 1
    assert f"{tmp_path / 'rows.csv'}:3: ts: got 'soon'; expected epoch s" in done.stderr
    assert f"{tmp_path / 'rows.csv'}:4: campaign: got nothing; `campaign_id` must not be empty" in done.stderr
    assert f"{tmp_path / 'rows.csv'}:5: 3 columns where the header names 2" in done.stderr
    assert "3 of 5 rows could not be used" in done.stderr
    assert "Sent 2 events" in done.stderr
    assert "--shift-to-now moves all of it" in done.stderr
    assert "Traceback" not in done.stderr
    assert [key for key, _ in consumed(settings, lambda count: count >= 2)] == ["c-1", "c-5"]
    assert not (tmp_path / "state.json").exists()


def interrupted(words: list[str], state: Path, log: Path, events: int, how: signal.Signals) -> int:
    """Start a replay, and end it once `events` events are known to be sent; its exit status."""
    with log.open("wb") as output:
        # A shell without job control has what it starts in the background ignore Ctrl-C, this test and its processes too.
        heard = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(words, stderr=output)
        signal.signal(signal.SIGINT, heard)
        try:
            deadline = time.monotonic() + 60
            while not state.exists() or json.loads(state.read_text())["sent"] < events:
                assert time.monotonic() < deadline
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
        finally:
            process.send_signal(how)
            status = process.wait(timeout=15)
    return status


def test_an_interrupted_replay_goes_on_where_it_stopped_and_repeats_keep_their_ids(prepared: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, config = prepared
    total = 120_000
    rows = pl.DataFrame({"ts": range(1_700_000_000, 1_700_000_000 + total)}).with_columns((pl.col("ts") % 7).alias("campaign"))
    rows.write_csv(tmp_path / "rows.csv")
    (tmp_path / "clicks.yaml").write_text(CLICKS)
    state, log = tmp_path / "state.json", tmp_path / "replay.log"
    # 120,000 s of events at this speed take 12 s.
    words = ("replay", tmp_path / "rows.csv", "--mapping", tmp_path / "clicks.yaml", "--speed", "10000", "--shift-to-now", "--state", state)

    # Ctrl-C, then a power cut.
    assert interrupted(command(config, *words), state, log, 5_000, signal.SIGINT) == 130
    stopped = json.loads(state.read_text())
    assert f"Stopped after {stopped['sent']:,} of 120,000 events; the same command with --resume goes on there." in log.read_text()
    interrupted(command(config, *words, "--resume"), state, log, stopped["sent"] + 5_000, signal.SIGKILL)
    kept = json.loads(state.read_text())
    assert stopped["sent"] + 5_000 <= kept["sent"] < total
    assert kept["shift_ms"] == stopped["shift_ms"]

    done = run(config, *words[:5], "1000000", *words[7:], "--resume")
    assert done.returncode == 0, done.stderr
    assert f"Sent {total - kept['sent']:,} events" in done.stderr
    assert not state.exists()
    found = consumed(settings, lambda count: count >= total)
    times = {str(value["event_id"]): value["occurred_at"] for _, value in found}
    assert len(times) == total
    # What is there twice is what was sent between the last writing of the state and the kill, and it says the same.
    assert all(times[str(value["event_id"])] == value["occurred_at"] for _, value in found)
    assert sorted(times.values()) == [(1_700_000_000 + n) * 1_000 + kept["shift_ms"] for n in range(total)]  # type: ignore[type-var]


def test_without_topics_or_a_broker_it_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("ts,campaign\n1700000000,c-1\n")
    (tmp_path / "clicks.yaml").write_text(CLICKS)
    nowhere = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"topic_prefix": f"t-{uuid.uuid4().hex[:8]}"})})
    config = settings_file(tmp_path, nowhere)
    words = ("replay", tmp_path / "rows.csv", "--mapping", tmp_path / "clicks.yaml", "--state", tmp_path / "state.json")
    done = run(config, *words)
    assert done.returncode == 2
    assert "run `campaignwatch topics create`" in done.stderr
    assert not (tmp_path / "state.json").exists()
    away = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})})
    done = run(settings_file(tmp_path, away), *words)
    assert done.returncode == 2
    assert "Kafka cannot be reached at 127.0.0.1:1" in done.stderr
    # One sentence, without the words of the client below it.
    assert "Unable connect" not in done.stderr
    assert nowhere.topic(Topic.CLICKS).endswith(".clicks")
