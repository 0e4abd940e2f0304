"""A change of an incident as a Slack message (Block Kit). Pure: the change in, the message out.

Every limit of Block Kit is kept by construction, and nothing that came from outside (a campaign's name, an id) can become markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from alerts.incidents.change import Change, ChangeKind, Severity
from alerts.notify.slack_text import Shown, clipped, clock_time, duration, escaped, label, money, number, shown_as, utc, width
from alerts.rules.model import PIPELINE

Block = dict[str, Any]

#: Metadata by which a message names the change that it shows.
EVENT_TYPE = "campaignwatch_incident"

_HEADER_LIMIT = 150
#: Below Slack's 3,000 for a section: all blocks of a message together must stay below about 13,000 characters.
_EXPLANATION_LIMIT = 2_500
_CONTEXT_LIMIT = 1_000
_NAME_LIMIT = 200
_LINK_LIMIT = 2_500

#: The dashboard that a link opens, by Grafana's uid, and how much it shows around the incident.
_OVERVIEW = "campaignwatch-overview"
_BEFORE, _AFTER = timedelta(hours=1), timedelta(minutes=10)

_MARK = {Severity.CRITICAL: ":red_circle:", Severity.WARNING: ":large_yellow_circle:"}
_RESOLVED_MARK = ":white_check_mark:"


@dataclass(frozen=True, slots=True)
class Look:
    """What a message needs beside the change itself."""

    currency: str
    """The reporting currency, which all money is in."""
    dashboard_url: str | None = None
    """Grafana's address, or that of a dashboard; None leaves the link out."""


@dataclass(frozen=True, slots=True)
class Message:
    """`text` is what notifications and screen readers use; `blocks` is what the channel shows."""

    text: str
    blocks: list[Block]


def message(change: Change, look: Look, *, note: str = "") -> Message:
    """The incident as it stands after `change`. `note` is a state that outlasts the change that brought it, such as an acknowledgement."""
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": _header(change), "emoji": False}},
        {"type": "section", "fields": [_mrkdwn(f"*{name}*\n{value}") for name, value in _facts(change, look, note)]},
    ]
    explanation = clipped(change.explanation, _EXPLANATION_LIMIT)
    if explanation:
        blocks.append({"type": "section", "text": _mrkdwn(explanation)})
    blocks.append({"type": "context", "elements": [_mrkdwn(part) for part in _context(change, look)]})
    return Message(_text(change, look), blocks)


def reply(change: Change, look: Look, severity_before: Severity | None) -> str | None:
    """The short thread reply that a change deserves beside the message it updates; None for most.

    It names what it is about, since a notification on a telephone shows it without the message above.
    """
    where = clipped(_where(change), _NAME_LIMIT)
    if change.cube == PIPELINE:
        where = f"{where}: {_what(change)[:1].lower()}{_what(change)[1:]}"
    if change.change is ChangeKind.RESOLVED and change.cube == PIPELINE:
        return f"{where}: resolved after {_lasted(change)}. It did not happen again."
    if change.change is ChangeKind.RESOLVED:
        return f"{where}: resolved after {_lasted(change)}. Last seen: {_observed(change, look)} (expected {_expected(change, look)})."
    if change.change is ChangeKind.REOPENED:
        expected = "" if change.cube == PIPELINE else f" (expected {_expected(change, look)})"
        return f"{where}: reopened, {change.severity.value}: {_observed(change, look)}{expected}."
    if severity_before is not None and severity_before is not change.severity:
        return f"{where}: severity is now {change.severity.value} (was {severity_before.value}): {_observed(change, look)}."
    return None


def note_of(change: Change, before: str) -> str:
    """The state that later messages of the incident must still show: who acknowledged or snoozed it stays true until it is reopened."""
    match change.change:
        case ChangeKind.ACKNOWLEDGED | ChangeKind.SNOOZED:
            return f"{change.change.value.capitalize()} {clock_time(change.at)}"
        case ChangeKind.OPENED | ChangeKind.REOPENED | ChangeKind.RESOLVED:
            return ""
        case ChangeKind.UPDATED:
            return before


def metadata(change: Change) -> dict[str, Any]:
    """What a message sent with a token carries, so that programs can find it."""
    return {"event_type": EVENT_TYPE, "event_payload": {"incident_id": change.incident_id, "seq": change.seq}}


def _header(change: Change) -> str:
    start = f"{_status(change)}: {_what(change)} - "
    return start + clipped(_where(change), _HEADER_LIMIT - width(start))


def _status(change: Change) -> str:
    if change.change is ChangeKind.RESOLVED:
        return "Resolved"
    severity = change.severity.value.capitalize()
    return f"{severity}, reopened" if change.change is ChangeKind.REOPENED else severity


def _what(change: Change) -> str:
    # Names of measures come from the producers' kinds too, so they are clipped like everything else.
    name = clipped(label(change.measure, change.kpi), 60)
    name = name[:1].upper() + name[1:]
    # A break is named by what happened; nothing of it is expected.
    if change.change is ChangeKind.RESOLVED or change.cube == PIPELINE:
        return name
    if change.observed > change.expected.high:
        return f"{name} above expected"
    if change.observed < change.expected.low:
        return f"{name} below expected"
    return name


def _where(change: Change) -> str:
    """Which campaign, channel, ... in words, not yet escaped."""
    if change.cube == PIPELINE:
        return change.key.get("topic") or "the pipeline"
    campaign = change.key.get("campaign_id")
    parts = []
    if campaign is not None:
        parts.append(f"{change.name} ({campaign})" if change.name and change.name != campaign else campaign)
    parts += [
        f"{dimension.removesuffix('_id').replace('_', ' ')} {'(none)' if value is None else value}"
        for dimension, value in change.key.items()
        if dimension != "campaign_id" or value is None
    ]
    return ", ".join(parts) or "all campaigns"


def _facts(change: Change, look: Look, note: str) -> list[tuple[str, str]]:
    """The pairs of the table, at most 10 (Block Kit's limit)."""
    resolved = change.change is ChangeKind.RESOLVED
    mark = _RESOLVED_MARK if resolved else _MARK[change.severity]
    facts = [
        ("Severity", f"{mark} {'Resolved' if resolved else change.severity.value.capitalize()}"),
        ("Campaign" if "campaign_id" in change.key else "Where", clipped(_where(change), _NAME_LIMIT)),
    ]
    if change.cube != PIPELINE:
        facts += [("Observed", _observed(change, look)), ("Expected", _expected(change, look))]
    elif change.observed:
        facts.append(("How many", _observed(change, look)))
    facts.append(("Since", clock_time(change.opened_at)))
    if resolved:
        facts.append(("Lasted", _lasted(change)))
    if change.money_at_stake is not None:
        facts.append(("Money at stake", money(change.money_at_stake, look.currency)))
    if note:
        facts.append(("State", note))
    return facts


def _context(change: Change, look: Look) -> list[str]:
    parts = [
        f"Rule {clipped(change.rule, _NAME_LIMIT)} v{clipped(change.rule_version, 40)}",
        f"Window {clock_time(change.window.start)} to {clock_time(change.window.to)}",
        f"Incident {clipped(change.incident_id, _CONTEXT_LIMIT // 2)}, change {change.seq}",
    ]
    link = dashboard_link(change, look)
    if link is not None:
        parts.append(f"<{link}|Open dashboard>")
    return parts


def dashboard_link(change: Change, look: Look) -> str | None:
    """The dashboard over the incident's time, as an address that is safe inside `<...|...>`; None without a usable one.

    Grafana's own address leads to the overview; one of a dashboard (/d/ in its path) is kept. Time range and key go along.
    """
    if not look.dashboard_url:
        return None
    try:
        url = urlsplit(look.dashboard_url)
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or not url.netloc:
        return None
    path = url.path if "/d/" in url.path else f"{url.path.rstrip('/')}/d/{_OVERVIEW}"
    shown_from = min(change.opened_at, change.window.start) - _BEFORE
    asked: dict[str, int | str] = {"from": _ms(shown_from), "to": _ms(change.window.to + _AFTER)}
    if change.cube != PIPELINE:
        asked.update({f"var-{dimension}": value for dimension, value in change.key.items() if value is not None})
    query = "&".join(part for part in (url.query, urlencode(asked)) if part)
    link = urlunsplit(url._replace(path=path, query=query))
    link = escaped(link.replace("|", "%7C").replace(" ", "%20").replace("<", "%3C").replace(">", "%3E"))
    return link if width(link) <= _LINK_LIMIT else None


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _observed(change: Change, look: Look) -> str:
    return number(change.observed, _shown(change), look.currency)


def _expected(change: Change, look: Look) -> str:
    shown, band = _shown(change), change.expected
    low, mid, high = (number(value, shown, look.currency) for value in (band.low, band.mid, band.high))
    return mid if low == high else f"{low} to {high} (about {mid})"


def _shown(change: Change) -> Shown:
    return shown_as(change.measure, change.kpi)


def _lasted(change: Change) -> str:
    end: datetime = change.resolved_at or change.at
    if end.tzinfo is None:
        end = end.replace(tzinfo=UTC)
    return duration(end - change.opened_at)


def _text(change: Change, look: Look) -> str:
    """One or two sentences that read well in a notification. Slack reads markup here too, so it is escaped."""
    where, what = clipped(_where(change), _NAME_LIMIT), _what(change)
    if change.change is ChangeKind.RESOLVED:
        return f"Resolved: {what} for {where}, after {_lasted(change)}."
    stake = "" if change.money_at_stake is None else f" At stake: {money(change.money_at_stake, look.currency)}."
    if change.cube == PIPELINE:
        count = f" {_observed(change, look)}," if change.observed else ""
        return f"{_status(change)}: {what} in {where}:{count} since {utc(change.opened_at)}."
    seen = f"{_observed(change, look)} observed, {_expected(change, look)} expected, since {utc(change.opened_at)}."
    return f"{_status(change)}: {what} for {where}: {seen}{stake}"


def _mrkdwn(text: str) -> Block:
    # `verbatim` keeps Slack from turning names and addresses inside the text into links and mentions on its own.
    return {"type": "mrkdwn", "text": text, "verbatim": True}
