"""What people read in Slack, and that nothing from outside can become markup or break a limit."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.demo.block_kit import MAX_ALL_TEXT, all_text, problems
from alerts.incidents.change import Change, ChangeKind, Expected, Severity, WindowOf
from alerts.notify.sink import Rejected, Retry
from alerts.notify.slack_blocks import Look, dashboard_link, message, metadata, note_of, reply
from alerts.notify.slack_errors import refusal
from alerts.notify.slack_text import Shown, clipped, duration, label, number, shown_as, width

OPENED = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
LOOK = Look("USD", "https://grafana.example/")


def a_change(kind: ChangeKind = ChangeKind.OPENED, **fields: Any) -> Change:
    values: dict[str, Any] = {
        "incident_id": "i-1",
        "change": kind,
        "seq": 1,
        "at": OPENED + timedelta(minutes=1),
        "rule": "traffic",
        "severity": Severity.CRITICAL,
        "cube": "campaign",
        "key": {"campaign_id": "c-1"},
        "measure": "clicks",
        "observed": 12.0,
        "expected": Expected(low=300, mid=340, high=380),
        "window": WindowOf(start=OPENED - timedelta(minutes=5), to=OPENED),
        "money_at_stake": Decimal("1234.5"),
        "explanation": "Clicks fell to 12. Between 300 and 380 are usual at this hour. Check the landing page first.",
        "offsets": {"marketing.clicks:0": 41},
        "opened_at": OPENED,
        "name": "Summer Sale",
    }
    return Change(**{**values, **fields})


def header(change: Change) -> str:
    return str(message(change, LOOK).blocks[0]["text"]["text"])


def facts(change: Change, note: str = "") -> dict[str, str]:
    fields = message(change, LOOK, note=note).blocks[1]["fields"]
    return dict(field["text"].removeprefix("*").split("*\n", 1) for field in fields)


def everything(change: Change) -> str:
    return json.dumps([message(change, LOOK).blocks, message(change, LOOK).text], ensure_ascii=False)


def test_an_opened_incident_says_what_where_how_much_and_since_when() -> None:
    change = a_change()
    assert header(change) == "Critical: Clicks below expected - Summer Sale (c-1)"
    assert facts(change) == {
        "Severity": ":red_circle: Critical",
        "Campaign": "Summer Sale (c-1)",
        "Observed": "12",
        "Expected": "300 to 380 (about 340)",
        "Since": f"<!date^{int(OPENED.timestamp())}^{{date_short_pretty}} {{time}}|2026-11-23 14:00 UTC>",
        "Money at stake": "1,234.50 USD",
    }
    blocks = message(change, LOOK).blocks
    assert blocks[2]["text"]["text"] == change.explanation
    context = [element["text"] for element in blocks[3]["elements"]]
    assert context[0] == "Rule traffic v1"
    assert context[1].startswith("Window <!date^")
    assert context[2] == "Incident i-1, change 1"
    assert context[3].startswith("<https://grafana.example/d/campaignwatch-overview?from=")
    assert context[3].endswith("|Open dashboard>")


def test_the_notification_text_stands_alone() -> None:
    assert message(a_change(), LOOK).text == (
        "Critical: Clicks below expected for Summer Sale (c-1): 12 observed, 300 to 380 (about 340) expected, since 2026-11-23 14:00 UTC. "
        "At stake: 1,234.50 USD."
    )


def test_a_resolved_incident_says_how_long_it_lasted() -> None:
    change = a_change(ChangeKind.RESOLVED, observed=345, resolved_at=OPENED + timedelta(minutes=12), seq=3)
    assert header(change) == "Resolved: Clicks - Summer Sale (c-1)"
    assert facts(change)["Lasted"] == "12 min"
    assert facts(change)["Severity"] == ":white_check_mark: Resolved"
    assert message(change, LOOK).text == "Resolved: Clicks for Summer Sale (c-1), after 12 min."
    assert (
        reply(change, LOOK, Severity.CRITICAL)
        == "Summer Sale (c-1): resolved after 12 min. Last seen: 345 (expected 300 to 380 (about 340))."
    )


def test_replies_tell_resolved_reopened_and_severity_changes_and_nothing_else() -> None:
    assert reply(a_change(ChangeKind.UPDATED), LOOK, Severity.CRITICAL) is None
    assert reply(a_change(ChangeKind.UPDATED), LOOK, None) is None
    assert reply(a_change(ChangeKind.UPDATED), LOOK, Severity.WARNING) == "Summer Sale (c-1): severity is now critical (was warning): 12."
    assert (reply(a_change(ChangeKind.REOPENED), LOOK, Severity.CRITICAL) or "").startswith("Summer Sale (c-1): reopened, critical: 12")


def test_where_names_the_key_of_any_cube() -> None:
    assert header(a_change(cube="total", key={}, name=None)).endswith("- all campaigns")
    assert header(a_change(cube="channel", key={"channel": "search"}, name=None)).endswith("- channel search")
    both = a_change(cube="campaign_channel", key={"campaign_id": "c-1", "channel": None})
    assert header(both).endswith("- Summer Sale (c-1), channel (none)")


@pytest.mark.parametrize(
    ("measure", "kpi", "value", "text"),
    [
        ("clicks", None, 12345.0, "12,345"),
        ("clicks", None, 12.25, "12.2"),
        ("conversions_purchase", None, 3.0, "3"),
        ("spend", None, 1234.5, "1,234.50 USD"),
        ("spend", None, 0.0421, "0.0421 USD"),
        (None, "ctr", 0.01234, "1.23%"),
        (None, "ctr", 0.00001, "0.001%"),
        (None, "cpa", 25.0, "25.00 USD"),
        (None, "roas", 2.5, "2.50x"),
        (None, "burn_rate", 4.0, "4.00x"),
        ("dwell_p50", None, 850.0, "850 ms"),
        ("dwell_ms_sum", None, 85_000.0, "85.0 s"),
        ("reach", None, 1500.0, "1,500"),
        (None, "unheard_of", 1.5, "1.50"),
        ("clicks", None, float("nan"), "unknown"),
    ],
)
def test_numbers_carry_the_unit_of_their_measure(measure: str | None, kpi: str | None, value: float, text: str) -> None:
    assert number(value, shown_as(measure, kpi), "USD") == text


def test_labels_are_words() -> None:
    assert label(None, "ctr") == "click-through rate (CTR)"
    assert label("net_revenue", None) == "net revenue"


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (720, "12 min"), (3_900, "1 h 5 min"), (7_200, "2 h"), (187_200, "2 d 4 h"), (-5, "0 s")]
)
def test_durations_read_well(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_an_acknowledgement_stays_in_the_message_until_the_incident_ends_or_reopens() -> None:
    note = note_of(a_change(ChangeKind.ACKNOWLEDGED), "")
    assert note.startswith("Acknowledged <!date^")
    assert note_of(a_change(ChangeKind.UPDATED), note) == note
    assert facts(a_change(ChangeKind.UPDATED), note)["State"] == note
    assert note_of(a_change(ChangeKind.REOPENED), note) == ""


def test_metadata_names_incident_and_change() -> None:
    assert metadata(a_change(seq=7)) == {"event_type": "campaignwatch_incident", "event_payload": {"incident_id": "i-1", "seq": 7}}


def test_a_campaign_name_cannot_mention_link_or_format_the_channel_away() -> None:
    said = everything(a_change(name="<!channel> & <https://evil.example|Summer> \u202eelaS\nSale"))
    assert "<!channel>" not in said
    assert "<https://evil" not in said
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|Summer&gt; elaS Sale" in said


def test_links_carry_the_key_and_cannot_break_out() -> None:
    change = a_change(key={"campaign_id": "c|1>&<!here>"})
    link = dashboard_link(change, Look("USD", "https://grafana.example/d/abc/mine?orgId=1"))
    assert link is not None
    assert link.startswith("https://grafana.example/d/abc/mine?orgId=1&amp;from=")
    assert "var-campaign_id=c%7C1%3E%26%3C%21here%3E" in link
    assert not set(link) & set("|<> ")
    assert dashboard_link(change, Look("USD", "javascript:alert(1)")) is None
    assert dashboard_link(change, Look("USD", "http://[broken")) is None
    assert dashboard_link(change, Look("USD")) is None


_short = st.text(max_size=40) | st.text("<>&!@|*`\u202e\U0001f680 ", max_size=40)
# Long texts are repeated short ones: as hostile, and made a hundred times faster.
_texts = st.builds(lambda text, times: text * times, _short, st.sampled_from([1, 2, 200]))
_floats = st.floats(allow_nan=False, allow_infinity=False)


@given(
    kind=st.sampled_from(ChangeKind),
    name=st.none() | _texts,
    campaign=st.text(max_size=128),
    measure=st.text(min_size=1, max_size=80),
    explanation=_texts,
    rule=_texts,
    incident=_texts,
    observed=_floats,
    band=st.tuples(_floats, _floats, _floats),
)
def test_every_message_is_one_that_slack_takes(
    kind: ChangeKind,
    name: str | None,
    campaign: str,
    measure: str,
    explanation: str,
    rule: str,
    incident: str,
    observed: float,
    band: tuple[float, float, float],
) -> None:
    low, mid, high = band
    change = a_change(
        kind,
        name=name,
        key={"campaign_id": campaign, "creative_id": campaign, "channel": campaign},
        measure=measure,
        explanation=explanation,
        rule=rule,
        rule_version=rule,
        incident_id=incident,
        observed=observed,
        expected=Expected(low=low, mid=mid, high=high),
        money_at_stake=Decimal("9" * 30),
    )
    made = message(change, LOOK, note="Acknowledged <!date^1^{time}|now>")
    assert problems(made.blocks) == []
    assert all_text(made.blocks) <= MAX_ALL_TEXT
    assert 0 < len(made.text) < 3_000
    # The only markup is what the message itself writes: dates and the link to the dashboard.
    marks = re.findall(r"<[^>]*>", everything(change))
    assert all(re.match(r"<(!date\^\d|https://grafana\.example/)", mark) for mark in marks), marks


@given(text=_texts, limit=st.integers(1, 300))
def test_clipping_keeps_the_limit_and_whole_entities(text: str, limit: int) -> None:
    cut = clipped(text, limit)
    assert width(cut) <= limit
    assert re.fullmatch(r"(?:[^&<>]|&amp;|&lt;|&gt;)*", cut)


def test_slacks_refusals_are_told_apart() -> None:
    slow = refusal(429, "ratelimited", {"Retry-After": "7"})
    assert isinstance(slow, Retry)
    assert slow.after == 7
    assert isinstance(refusal(502, "", {}), Retry)
    assert isinstance(refusal(200, "internal_error", {}), Retry)
    auth, blocks, odd, page = (refusal(s, c, {}) for s, c in ((200, "invalid_auth"), (200, "invalid_blocks"), (200, "zap"), (404, "")))
    assert isinstance(auth, Rejected)
    assert auth.fixable
    assert "slack.bot_token" in auth.detail
    assert isinstance(blocks, Rejected)
    assert not blocks.fixable
    assert isinstance(odd, Rejected)
    assert (odd.reason, odd.fixable) == ("other", True), "nobody knows whether it passes"
    assert "'zap'" in odd.detail
    assert isinstance(refusal(200, "team_added_to_org", {}), Retry)
    locked = refusal(200, "restricted_action_thread_locked", {})
    assert isinstance(locked, Rejected)
    assert not locked.fixable
    assert isinstance(page, Rejected)
    assert "slack.api_url" in page.detail


def test_shown_units_are_known_for_every_measure() -> None:
    assert shown_as("net_revenue", None) is Shown.MONEY
    assert shown_as(None, "engagement_rate") is Shown.SHARE
