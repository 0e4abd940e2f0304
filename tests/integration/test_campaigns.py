"""The registry of campaigns from a file kept by hand: published as a whole or not at all, shown, used in questions, deleted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streams.config import Money, Settings, Topic
from streams.topics import create_topics
from tests.integration.conftest import Broker, RedisServer
from tests.integration.processes import run
from tests.integration.workers import Worker, applied, get, ledger, own_settings, records, rows, send, until, worker

REGISTRY = """
campaigns:
  - campaign_id: spring
    name: Spring sale
    owner: ann
    channel: Search
    platform: google
    time_zone: Europe/Berlin
    starts_on: 2026-11-01
    ends_on: 2026-11-30
    currency: eur
    budget: {daily: 100.10, lifetime: "2500"}
    pacing: [1, 2.5, 0]
    targets: {cpa: 12.000001, roas: 4}
    calendar: {2026-11-27: 2}
    labels: {team: north}
  - campaign_id: summer
    name: Sommer ☀
    owner: bob
    budget: {monthly: 0.1}
  - {campaign_id: autumn, name: Autumn, owner: ann}
"""


@dataclass(frozen=True)
class Service:
    settings: Settings
    worker: Worker
    directory: Path

    def apply(self, text: str | None = None, *options: str) -> tuple[int, str, str]:
        """`campaigns apply` on a file with this content: status, standard output, standard error."""
        words: list[str | Path] = ["campaigns", "apply", *options]
        if text is not None:
            self.file.write_text(text, encoding="utf-8")
            words.append(self.file)
        done = run(self.worker.config, *words)
        return done.returncode, done.stdout, done.stderr

    @property
    def file(self) -> Path:
        return self.directory / "campaigns.yaml"

    def registered(self, **parameters: object) -> dict[str, dict[str, Any]]:
        """/api/campaigns, by campaign."""
        status, content = get(f"{self.worker.url}/api/campaigns", **parameters)
        assert status == 200, content
        assert content["total"] == len(content["campaigns"])
        return {campaign["campaign_id"]: campaign for campaign in content["campaigns"]}

    def read(self) -> int:
        """Records of the registry that the worker has read."""
        return ledger(self.worker.url).total("in", self.settings.topic(Topic.CAMPAIGNS))


@pytest.fixture(scope="module")
def service(broker: Broker, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker, and a registry of three campaigns that have some clicks."""
    settings = own_settings(broker, redis_server, money=Money(rates={"EUR": Decimal("1.1")}))
    asyncio.run(create_topics(settings))
    directory = tmp_path_factory.mktemp("campaigns")
    with worker(settings, directory) as running:
        started = Service(settings, running, directory)
        status, said, complaint = started.apply(REGISTRY)
        assert (status, complaint) == (0, "")
        assert said.splitlines() == [
            "spring: applied: Spring sale",
            "summer: applied: Sommer ☀",
            "autumn: applied: Autumn",
            f"3 records sent to {settings.topic(Topic.CAMPAIGNS)}",
        ]
        asyncio.run(_click(settings, running, {"spring": 1, "summer": 2, "autumn": 3, "unregistered": 4}))
        yield started


async def _click(settings: Settings, running: Worker, clicks: dict[str, int]) -> None:
    now = int(time.time() * 1_000)
    events = [
        {"event_id": f"{campaign}-{n}", "occurred_at": now, "campaign_id": campaign, "channel": "search", "cost": "0.5"}
        for campaign, count in clicks.items()
        for n in range(count)
    ]
    await send(settings, Topic.CLICKS, events)
    await applied(running.url, len(events) + 3)


async def test_what_is_applied_is_published_and_shown_with_all_its_fields(service: Service) -> None:
    found = service.registered()
    assert list(found) == ["autumn", "spring", "summer"]
    assert found["spring"] == {
        "campaign_id": "spring",
        "name": "Spring sale",
        "owner": "ann",
        "channel": "search",
        "platform": "google",
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-01",
        "ends_on": "2026-11-30",
        "currency": "EUR",
        "budget": {"daily": "100.1", "lifetime": "2500"},
        "pacing": ["1", "2.5", "0"],
        "targets": {"cpa": "12.000001", "roas": "4"},
        "calendar": {"2026-11-27": "2"},
        "labels": {"team": "north"},
    }
    assert found["summer"] == {
        "campaign_id": "summer",
        "name": "Sommer ☀",
        "owner": "bob",
        "budget": {"monthly": "0.1"},
        "time_zone": "UTC",
        "pacing": "even",
    }
    sent = await records(service.settings, Topic.CAMPAIGNS, 3)
    assert {record.key.decode(): json.loads(record.value)["campaign_id"] for record in sent} == {name: name for name in found}


def test_rows_can_be_asked_for_by_what_the_registry_knows(service: Service) -> None:
    def clicks(where: str) -> dict[str | None, int]:
        return {campaign: row["clicks"] for campaign, row in rows(service.worker.url, window="15m", where=where).items()}

    assert clicks("owner:ann") == {"spring": 1, "autumn": 3}
    assert clicks("owner:bob") == {"summer": 2}
    assert clicks("owner:nobody") == {}
    assert clicks("labels.team:north") == {"spring": 1}
    assert clicks("campaign_id:unregistered") == {"unregistered": 4}
    assert list(service.registered(where="owner:ann")) == ["autumn", "spring"]
    shown = run(service.worker.config, "kpis", "--window", "15m", "--where", "owner:ann", "--sort", "-clicks", "--json")
    assert [row["campaign_id"] for row in json.loads(shown.stdout)["rows"]] == ["autumn", "spring"]


def test_one_wrong_field_refuses_all_and_every_problem_is_named(service: Service) -> None:
    before, known = service.read(), service.registered()
    status, said, complaint = service.apply(
        """
- {campaign_id: winter, name: Winter, owner: ann}
- {campaign_id: spring, name: Spring, budget: {daily: -5}, time_zone: Mars/Olympus}
- {campaign_id: summer, nmae: Summer, budget: {weekly: 3}}
- {name: Nameless}
- {campaign_id: winter, name: Winter again}
- {campaign_id: money, name: Money, currency: GBP}
- just text
"""
    )
    assert (status, said) == (2, "")
    lines = complaint.splitlines()
    assert lines[0] == "campaignwatch: nothing was sent:"
    file = service.file
    for place, field, reason in (
        ("campaign 2 ('spring')", "budget.daily", "got -5"),
        ("campaign 2 ('spring')", "time_zone", 'got "Mars/Olympus"'),
        ("campaign 3 ('summer')", "nmae", "there is no such field"),
        ("campaign 3 ('summer')", "budget.weekly", "there is no such field"),
        ("campaign 3 ('summer')", "name", "required, but absent"),
        ("campaign 4", "campaign_id", "required, but absent"),
        ("campaign 5 ('winter')", "campaign_id", "given twice, first by campaign 1"),
        ("campaign 6 ('money')", "currency", "GBP"),
        ("campaign 7", "expected fields such as campaign_id and name", ""),
    ):
        assert any(line.startswith(f"{file}: {place}: ") and field in line and reason in line for line in lines), (place, field)
    assert (service.read(), service.registered()) == (before, known)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (None, (), "nothing to do: name a FILE.yaml, or campaigns to --delete"),
        ("campaigns: [", (), "not valid YAML"),
        ("[]", (), "a list of campaigns is expected"),
        ("kampaigns: []", (), "a list of campaigns is expected"),
        ("- {campaign_id: spring, name: Spring}", ("--delete", "spring"), "--delete spring: the file applies this campaign"),
        (None, ("--delete", ""), "--delete '': key: got none"),
    ],
)
def test_what_cannot_be_applied_is_said(service: Service, text: str | None, options: tuple[str, ...], said: str) -> None:
    status, _, complaint = service.apply(text, *options)
    assert status == 2
    assert said in complaint
    assert "Traceback" not in complaint


async def test_a_dry_run_sends_nothing_and_an_applied_change_and_a_deletion_are_seen(service: Service) -> None:
    before = service.read()
    change = "- {campaign_id: summer, name: Summer, owner: ann}"
    status, said, _ = service.apply(change, "--delete", "autumn", "--delete", "never-there", "--dry-run")
    assert status == 0
    assert said.splitlines() == [
        "summer: would be applied: Summer",
        "autumn: would be deleted",
        "never-there: would be deleted",
        f"3 records would be sent to {service.settings.topic(Topic.CAMPAIGNS)}",
    ]

    status, said, _ = service.apply(change, "--delete", "autumn", "--delete", "never-there")
    assert (status, said) == (
        0,
        f"summer: applied: Summer\nautumn: deleted\nnever-there: deleted\n3 records sent to {service.settings.topic(Topic.CAMPAIGNS)}\n",
    )
    # Had the dry run sent something, it would have come before.
    await until(service.read, lambda read: read >= before + 3)
    assert service.read() == before + 3
    found = service.registered()
    assert list(found) == ["spring", "summer"]
    # A campaign is replaced as a whole: the budget of before is gone.
    assert found["summer"] == {"campaign_id": "summer", "name": "Summer", "owner": "ann", "time_zone": "UTC", "pacing": "even"}
    by_owner = rows(service.worker.url, window="15m", where="owner:ann")
    assert {campaign: row["clicks"] for campaign, row in by_owner.items()} == {"spring": 1, "summer": 2}
    # Its events stay.
    assert rows(service.worker.url, window="15m")["autumn"]["clicks"] == 3
    assert ledger(service.worker.url).balanced
