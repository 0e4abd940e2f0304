"""The registry of campaigns from a file: `campaignwatch campaigns apply`.

The file is YAML (JSON is YAML too): a list of campaigns, alone or under `campaigns:`. Each is one record on PREFIX.campaigns, keyed by its
campaign_id. The topic is compacted: the last record of a campaign counts, one without a value deletes it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from streams.config import Money, Settings, Topic, load
from streams.errors import UserError
from streams.events.models import Campaign, unknown_fields
from streams.events.parsing import Deletion, parse, registered
from streams.events.refusal import Refusal
from streams.options import ConfigOption
from streams.preflight import check_kafka
from streams.producing import Sender


class RegistryError(UserError):
    """The file cannot be applied. The message has a line per problem: file, campaign, field and reason."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record for the registry."""

    campaign_id: str
    #: JSON; None deletes the campaign.
    value: bytes | None
    #: For people: the name of the campaign.
    name: str = ""


def campaigns_apply(
    file: Annotated[Path | None, typer.Argument(metavar="FILE.yaml", help="A list of campaigns, alone or under `campaigns:`.")] = None,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="ID", help="Delete this campaign; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and say what would be sent.")] = False,
    config: ConfigOption = None,
) -> None:
    """Publish campaigns to the registry: names, owners, budgets, targets. One wrong field and nothing is sent."""
    settings = load(config)
    if file is None and not delete:
        raise RegistryError("nothing to do: name a FILE.yaml, or campaigns to --delete")
    changes = read_changes(file, settings.money) if file is not None else []
    changes += deletions(delete or [], settings.money, {change.campaign_id for change in changes})
    if not dry_run:
        asyncio.run(_publish(settings, changes))
    would = "would be " if dry_run else ""
    for change in changes:
        what = "deleted" if change.value is None else f"applied: {change.name}"
        typer.echo(f"{change.campaign_id}: {would}{what}")
    typer.echo(f"{len(changes)} records {would}sent to {settings.topic(Topic.CAMPAIGNS)}")


def read_changes(path: Path, money: Money) -> list[Change]:
    """The campaigns of a file, each checked as the workers will check it. Raises RegistryError that names every problem."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Literal)  # nosec B506 # a SafeLoader that keeps numbers as text
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RegistryError(f"{path}: not valid YAML: {error}") from error
    if isinstance(content, dict) and "campaigns" in content:
        for key in content:
            if key != "campaigns":
                raise RegistryError(f"{path}: {key}: there is no such key here; the file holds a list, alone or under `campaigns:`")
        content = content["campaigns"]
    if not isinstance(content, list) or not content:
        raise RegistryError(f"{path}: a list of campaigns is expected, alone or under `campaigns:`")
    changes: list[Change] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for number, entry in enumerate(content, 1):
        where = f"{path}: campaign {number}"
        if isinstance(entry, dict) and isinstance(entry.get("campaign_id"), str):
            where += f" ({entry['campaign_id']!r})"
        if not isinstance(entry, dict):
            problems.append(f"{where}: expected fields such as campaign_id and name")
            continue
        # A producer's extra fields are ignored; in a file kept by hand they are slips.
        problems += [f"{where}: {holder}{field}: there is no such field" for holder, field, _ in unknown_fields(entry, Campaign)]
        try:
            change = _checked(entry, money)
        except Refusal as refusal:
            problems.append(f"{where}: {refusal.detail}")
            continue
        except RecursionError:
            problems.append(f"{where}: nested too deeply, or an alias that holds itself")
            continue
        if change.campaign_id in seen:
            problems.append(f"{where}: campaign_id: given twice, first by {seen[change.campaign_id]}")
        seen.setdefault(change.campaign_id, f"campaign {number}")
        changes.append(change)
    if problems:
        raise RegistryError("nothing was sent:\n" + "\n".join(problems))
    return changes


def deletions(ids: Sequence[str], money: Money, applied: set[str]) -> list[Change]:
    """Records that delete these campaigns. Raises RegistryError for an id that cannot be one, or that is applied as well."""
    changes = []
    for campaign_id in dict.fromkeys(ids):
        if campaign_id in applied:
            raise RegistryError(f"--delete {campaign_id}: the file applies this campaign; take it out of one of them")
        try:
            deletion = parse(Topic.CAMPAIGNS, None, campaign_id.encode("utf-8", "surrogateescape"), money)
        except Refusal as refusal:
            raise RegistryError(f"--delete {campaign_id!r}: {refusal.detail}") from refusal
        assert isinstance(deletion, Deletion)
        changes.append(Change(deletion.campaign_id, None))
    return changes


def _checked(entry: dict[str, Any], money: Money) -> Change:
    # What UTF-8 cannot carry is passed on as it is, for the arbiter to refuse.
    value = json.dumps(_plain(entry), ensure_ascii=False).encode("utf-8", "surrogatepass")
    key = entry.get("campaign_id")
    campaign = parse(Topic.CAMPAIGNS, value, key.encode("utf-8", "surrogatepass") if isinstance(key, str) else None, money)
    assert isinstance(campaign, Campaign)
    normal = json.dumps(registered(campaign), ensure_ascii=False).encode("utf-8")
    return Change(campaign.campaign_id, normal, campaign.name)


def _plain(value: Any) -> Any:
    """YAML's values as JSON has them: dates as text, also where they are keys."""
    if isinstance(value, dict):
        return {name if isinstance(name, str) else str(_plain(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if isinstance(value, date):
        return value.isoformat()
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Literal(yaml.SafeLoader):
    """YAML whose decimal numbers keep their literal text: money is never a double."""


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Literal.add_constructor("tag:yaml.org,2002:float", _decimal)


async def _publish(settings: Settings, changes: Sequence[Change]) -> None:
    await check_kafka(settings, [Topic.CAMPAIGNS])
    async with Sender(settings) as sender:
        await sender.send(settings.topic(Topic.CAMPAIGNS), [(change.campaign_id.encode("utf-8"), change.value) for change in changes])
