"""`campaignwatch validate`: what it says of a producer's file, and that it never says anything else than the arbiter."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.config import EVENT_TOPICS, INPUT_TOPICS, Money, Settings, Topic
from streams.events import validating
from streams.events.json_text import MAX_BYTES
from streams.events.parsing import KEYED_TOPICS, parse
from streams.events.refusal import Refusal
from streams.events.schema import EXAMPLES
from streams.events.times import to_epoch_ms
from streams.events.validating import Checker, Found, Problem, ValidateError, pieces, topic_of, validate
from tests.unit.hostile_events import events, valid

SETTINGS = Settings().model_copy(update={"money": Money.model_validate({"rates": {"EUR": "1.0842", "JPY": "0.0064"}})})
NOW = to_epoch_ms(datetime(2026, 11, 23, 4, 0, tzinfo=UTC))
ESCAPE = "\x1b"


def event(topic: Topic = Topic.CLICKS, /, **fields: Any) -> dict[str, Any]:
    plain = {"campaign_id": "c-1", "name": "Spring"} if topic is Topic.CAMPAIGNS else valid(topic)
    return plain | fields


def lines(*values: Any) -> bytes:
    return b"".join((value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n" for value in values)


def checked(content: bytes, topic: Topic = Topic.CLICKS, now: int = NOW) -> tuple[Checker, list[Problem]]:
    checker = Checker(topic, SETTINGS, now)
    return checker, [problem for found in pieces(io.BytesIO(content)) for problem in checker.check(found)]


def told(problems: Iterable[Problem]) -> list[tuple[int, str, bool]]:
    return [(problem.line, problem.reason, problem.refused) for problem in problems]


def command(file: Path | str, *options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "alerts.cli", "validate", str(file), *options]
    return subprocess.run(words, input=stdin, capture_output=True, check=False, timeout=60)


# What is refused.


@pytest.mark.parametrize("topic", EVENT_TOPICS)
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_it_never_disagrees_with_the_arbiter(topic: Topic, data: st.DataObject) -> None:
    sent = data.draw(events(topic))
    if sent.value is None:
        return
    expected: tuple[str, str] | None = None
    try:
        parse(topic, sent.value, sent.key, SETTINGS.money)
    except Refusal as refusal:
        expected = refusal.reason.value, refusal.detail
    problems = [problem for problem in Checker(topic, SETTINGS, NOW).check(Found(7, sent.value, len(sent.value))) if problem.refused]
    if expected is not None and expected[0] == "wrong_key":
        # The key is the one thing that a file does not say; the event's own campaign is taken.
        assert problems == []
        return
    assert [(problem.reason, problem.detail) for problem in problems] == ([] if expected is None else [expected])
    assert {problem.line for problem in problems} <= {7}


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_every_topic_is_checked_by_its_own_model(topic: Topic) -> None:
    checker, problems = checked(lines(EXAMPLES[topic], {**EXAMPLES[topic], "campaign_id": None}), topic)
    assert told(problems) == [(2, "missing_field", True)]
    assert (checker.events, checker.valid, checker.refused) == (2, 1, 1)


@pytest.mark.parametrize("topic", KEYED_TOPICS)
def test_the_key_is_taken_to_be_the_campaign(topic: Topic) -> None:
    assert checked(lines(event(topic, campaign_id="Ünï / 1")), topic)[1] == []


def test_every_line_that_is_no_event_is_told_by_its_number() -> None:
    content = lines(event(), b"", b"  ", b"{", b"[1]", event(cost=-1), b"\xff", b'{"a": NaN}', b"null")
    checker, problems = checked(content)
    assert told(problems) == [
        (4, "malformed", True),
        (5, "malformed", True),
        (6, "invalid_field", True),
        (7, "malformed", True),
        (8, "malformed", True),
        (9, "malformed", True),
    ]
    assert problems[3].detail.startswith("not UTF-8: byte 0")
    assert checker.events == 7


def test_the_last_line_needs_no_end_and_windows_ends_are_ends() -> None:
    first, second = json.dumps(event(event_id="a")), json.dumps(event(event_id="b"))
    for content in (f"{first}\n{second}", f"{first}\r\n{second}\r\n", f"\n\n{first}\n{second}\n\n"):
        checker, problems = checked(content.encode())
        assert (checker.events, problems) == (2, [])


def test_a_value_may_have_64_kib_and_not_a_byte_more() -> None:
    value = json.dumps(event()).encode()
    full = value + b" " * (MAX_BYTES - len(value))
    assert checked(full + b"\r\n")[1] == []
    for size, end in ((MAX_BYTES + 1, b"\n"), (MAX_BYTES + 1, b""), (MAX_BYTES * 5, b"\r\n"), (MAX_BYTES * 5, b"")):
        content = value + b" " * (size - len(value)) + end + (lines(event(event_id="after")) if end else b"")
        checker, problems = checked(content)
        assert told(problems) == [(1, "too_large", True)]
        assert problems[0].detail == f"the value has {size} bytes; at most {MAX_BYTES} are taken"
        assert checker.events == (2 if end else 1)


# Arrays and indented objects.


def test_an_array_and_indented_objects_are_taken_apart() -> None:
    two = [event(event_id="a"), event(event_id="b", cost=-1)]
    for content, line in (
        (json.dumps(two), 1),
        (json.dumps(two, indent=2), 8),
        ("\n [" + ",\n".join(map(json.dumps, two)) + "\n]\n", 3),
        ("\n".join(json.dumps(each, indent=2) for each in two), 7),
    ):
        checker, problems = checked(content.encode())
        assert told(problems) == [(line, "invalid_field", True)], content
        assert checker.events == 2
    checker, problems = checked(json.dumps(event(), indent=4).encode())
    assert (checker.valid, problems) == (1, [])
    assert checked(b"[]")[0].events == 0


def test_what_stands_in_an_array_reaches_the_arbiter_as_it_is_written() -> None:
    plain = json.dumps(event())[:-1].encode()
    content = b"[" + b",".join(
        plain + b', "event_id": "%d", ' % number + member + b"}"
        for number, member in enumerate(
            (
                b'"cost": 1, "cost": -1',
                b'"cost": 999999999.9999999000000000000000000001',
                b'"cost": 1e-999999999999999999999',
                b'"cost": NaN',
                b'"region": "\xff"',
                b'"region": "a\nb"',
                b'"extra": ' + b"9" * 5_000,
            )
        )
    )
    _, problems = checked(content + b"]")
    assert [problem.reason for problem in problems] == ["invalid_field", "malformed", "malformed", "malformed", "unknown_field"]
    assert "got -1" in problems[0].detail


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"[", 1, "Expecting value"),
        (b'[\n{"a": 1},\n]', 3, "Expecting value"),
        (b'[\n{"a": 1}\n{"a": 2}]', 3, "expected a comma and the next event"),
        (b'[{"a": 1}', 1, "expected a comma and the next event"),
        (b"[]\n[]", 2, "something follows the array"),
        (b'{\n"a": 1,\n}', 3, "Expecting property name"),
        (b'[{"a": 1}, ' + b"[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_where_an_array_cannot_be_read_on_is_told(content: bytes, line: int, says: str) -> None:
    _, problems = checked(content)
    assert (problems[-1].line, problems[-1].reason) == (line, "malformed")
    assert says in problems[-1].detail
    assert "from here on nothing was looked at" in problems[-1].detail


def test_arrays_are_bounded_and_lines_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validating, "LARGEST_DOCUMENT", 1_048_576)
    many = [event(event_id=str(number), region="x" * 200) for number in range(4_000)]
    with pytest.raises(ValidateError, match="at most 1 MiB; write one event a line"):
        checked(json.dumps(many).encode())
    checker, problems = checked(lines(*many))
    assert (checker.events, problems) == (4_000, [])


def test_lines_are_read_as_they_come() -> None:
    class Endless(io.RawIOBase):
        """Gives one line after the other, and would never end."""

        def readline(self, size: int | None = -1, /) -> bytes:
            return lines(event())

    found = pieces(Endless())  # type: ignore[arg-type]
    assert [next(found).line for _ in range(3)] == [1, 2, 3]


# What is warned of.


def test_an_unknown_field_is_told_once_with_what_may_be_meant() -> None:
    wrong = {"event_id": "1", "occured_at": "2026-11-23T03:24:33Z", "campaignId": "c-1", "Channel": "search", "utm_source": "x"}
    checker, problems = checked(lines(wrong, event(utm_source="y"), event(event_id="3", utm_source="z")))
    assert told(problems) == [(1, "missing_field", True), *[(1, "unknown_field", False)] * 4]
    assert [problem.detail for problem in problems[1:]] == [
        '"occured_at": there is no such field, it is ignored; did you mean occurred_at?',
        '"campaignId": there is no such field, it is ignored; did you mean campaign_id?',
        '"Channel": there is no such field, it is ignored; did you mean channel?',
        '"utm_source": there is no such field, it is ignored',
    ]
    assert checker.unknown == {"occured_at": 1, "campaignId": 1, "Channel": 1, "utm_source": 3}
    assert checker.warnings == 6


def test_fields_of_budget_and_targets_are_known_too() -> None:
    content = lines(event(Topic.CAMPAIGNS, budget={"dayly": 5}, targets={"cpa": 1, "roi": 2}, labels={"any": "thing"}, calendar=""))
    _, problems = checked(content, Topic.CAMPAIGNS)
    assert [problem.detail for problem in problems] == [
        '"budget.dayly": there is no such field, it is ignored; did you mean budget.daily?',
        '"targets.roi": there is no such field, it is ignored',
    ]


def test_a_field_that_is_given_is_not_guessed() -> None:
    _, problems = checked(lines(event(campaign="x")))
    assert problems[0].detail == '"campaign": there is no such field, it is ignored'


def test_names_of_unknown_fields_are_bounded() -> None:
    checker, problems = checked(lines(*(event(event_id=str(i)) | {f"f{i}-{j}" * 50: 1 for j in range(20)} for i in range(200))))
    assert len(problems) == len(checker.unknown) == 1_000
    assert max(map(len, checker.unknown)) == 100
    assert checker.warnings == 4_000


@pytest.mark.parametrize(
    ("fields", "topic", "expected"),
    [
        ({"occurred_at": "2026-11-23T04:05:00Z"}, Topic.CLICKS, None),
        ({"occurred_at": "2026-11-23T04:05:00.001Z"}, Topic.CLICKS, ("in_future", "occurred_at is 5 min ahead of now")),
        ({"occurred_at": "2036-11-23T04:00:00Z"}, Topic.SPEND, ("in_future", "occurred_at is 3653 days ahead of now")),
        ({"occurred_at": NOW - 400 * 86_400_000}, Topic.CLICKS, None),
        ({"occurred_at": NOW - 400 * 86_400_000 - 1}, Topic.CLICKS, ("too_late", "occurred_at is 400 days ago")),
        ({"occurred_at": 1_795_404_273}, Topic.CLICKS, ("too_late", "it looks like seconds where milliseconds are expected")),
        ({"occurred_at": "1970-01-21T18:43:24.273Z"}, Topic.CLICKS, ("too_late", "tables go back 400 days")),
        # A report is as old as its end, whenever it was made.
        ({"occurred_at": "2024-01-01T00:00:00Z"}, Topic.SPEND, None),
        (
            {"period_start": "2025-10-01T00:00:00Z", "period_end": "2025-10-02T00:00:00Z"},
            Topic.SPEND,
            ("too_late", "period_end is 417 days"),
        ),
    ],
)
def test_times_that_would_not_be_counted_now_are_warned_of(fields: dict[str, Any], topic: Topic, expected: tuple[str, str] | None) -> None:
    checker, problems = checked(lines(event(topic, **fields)), topic)
    assert checker.valid == 1
    assert [problem.reason for problem in problems] == ([expected[0]] if expected else [])
    assert not expected or expected[1] in problems[0].detail


def test_an_id_that_came_before_is_warned_of() -> None:
    _, problems = checked(
        lines(event(), event(event_id="other"), event(region="x"), event(event_id="refused", cost=-1), event(event_id="refused"))
    )
    assert told(problems) == [(3, "duplicate", False), (4, "invalid_field", True)]
    assert problems[0].detail == "event_id is that of line 1; sent with the same key within 60 min, only the first counts"


def test_a_spend_report_is_known_by_its_period_and_not_by_its_id() -> None:
    other = {"period_end": "2026-11-23T02:00:00Z"}
    reports: list[dict[str, Any]] = [
        {"revision": 1},
        {"revision": 3},
        {"revision": 2},
        {"revision": 3},
        {"revision": 0, **other},
        {"platform": "else"},
    ]
    _, problems = checked(lines(*(event(Topic.SPEND, **fields) for fields in reports)), Topic.SPEND)
    assert told(problems) == [(3, "duplicate", False), (4, "duplicate", False)]
    assert problems[0].detail.startswith("line 2 has this campaign, platform and period with revision 3")


def test_ids_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validating, "REMEMBERED", 3)
    _, problems = checked(lines(*(event(event_id=each) for each in ("a", "b", "c", "a", "d", "a", "d"))))
    assert [problem.line for problem in problems] == [4, 7], "the oldest is forgotten first"


# The topic.


@pytest.mark.parametrize(
    ("file", "topic", "expected"),
    [
        ("clicks.jsonl", None, Topic.CLICKS),
        ("/data/2026-11-23-Spend.json", None, Topic.SPEND),
        ("clicks/conversions.jsonl", None, Topic.CONVERSIONS),
        ("clicks.jsonl", "engagements", Topic.ENGAGEMENTS),
        ("-", "marketing.campaigns", Topic.CAMPAIGNS),
    ],
)
def test_the_topic_is_named_or_stands_in_the_name(file: str, topic: str | None, expected: Topic) -> None:
    assert topic_of(file, topic, Settings.model_construct()) is expected


@pytest.mark.parametrize(
    ("file", "topic", "says"),
    [
        ("events.jsonl", None, r"events.jsonl: which topic is it for\? Name it with --topic \(clicks, conversions"),
        ("-", None, r"stdin: which topic"),
        ("spend-of-campaigns.jsonl", None, "the file's name has spend and campaigns"),
        ("clicks.jsonl", "click", "--topic click: producers write to clicks, conversions"),
        ("clicks.jsonl", "quarantine", "--topic quarantine: producers write to clicks"),
    ],
)
def test_a_topic_that_is_not_clear_is_asked_for(file: str, topic: str | None, says: str) -> None:
    with pytest.raises(ValidateError, match=says):
        topic_of(file, topic, SETTINGS)


# The command.


def test_the_command_says_line_by_line_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "clicks.jsonl"
    now = datetime.now(UTC).isoformat()
    file.write_bytes(
        lines(
            event(occurred_at=now, utm="x"),
            event(occurred_at=now, event_id="2", utm="x", cost="1,50"),
            event(occurred_at="2026-11-23T03:24:33", event_id=f"{ESCAPE}[31m3"),
            event(occurred_at=now, event_id="4", user_id=123, ip=["198.51.100.7"], channel=f"{ESCAPE}[31m" * 20),
        )
    )
    shown = command(file)
    assert shown.returncode == 1
    assert shown.stderr == b""
    text = shown.stdout.decode().replace(str(file), "F").splitlines()
    assert text[0] == 'F:1: warning: unknown_field: "utm": there is no such field, it is ignored'
    assert text[1].startswith('F:2: invalid_field: cost: got "1,50"; expected a number from 0 to 1000000000')
    assert text[2].startswith('F:3: invalid_field: occurred_at: got "2026-11-23T03:24:33"; expected an RFC 3339 time')
    assert text[3].startswith("F:4: invalid_field: channel: got")
    assert text[4:] == [
        'F: warning: unknown_field: "utm" is in 2 events; only the first is shown',
        "4 events: 1 valid, 3 refused, 2 warnings",
    ]
    assert ESCAPE not in shown.stdout.decode()
    assert "198.51.100.7" not in shown.stdout.decode()


def test_standard_input_is_read_and_machines_get_json() -> None:
    now = datetime.now(UTC).isoformat()
    shown = command("-", "--topic", "clicks", "--json", stdin=lines(event(occurred_at=now), event(occurred_at=now), b"{}"))
    assert shown.returncode == 1
    first, second, total = map(json.loads, shown.stdout.splitlines())
    assert {name: first[name] for name in ("file", "line", "level", "reason")} == {
        "file": "stdin",
        "line": 2,
        "level": "warning",
        "reason": "duplicate",
    }
    assert (second["line"], second["level"], second["reason"]) == (3, "refused", "missing_field")
    assert total == {
        "file": "stdin",
        "topic": "clicks",
        "events": 3,
        "valid": 2,
        "refused": 1,
        "warnings": 1,
        "reasons": {"duplicate": 1, "missing_field": 1},
        "unknown_fields": {},
    }


def test_valid_events_are_status_0_warnings_or_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minute = to_epoch_ms(datetime.now(UTC)) // 60_000 * 60_000
    report = event(Topic.SPEND, occurred_at=minute, period_start=minute - 60_000, period_end=minute)
    (tmp_path / "spend.jsonl").write_bytes(lines(report, {**report, "revision": 2}))
    validate(str(tmp_path / "spend.jsonl"))
    assert capsys.readouterr().out == "2 events: 2 valid, 0 refused, 0 warnings\n"
    (tmp_path / "clicks").write_bytes(lines(event(occurred_at=minute, cosst=1)))
    validate(str(tmp_path / "clicks"))
    assert capsys.readouterr().out.splitlines()[-1] == "1 event: 1 valid, 0 refused, 1 warning"
    (tmp_path / "clicks").write_bytes(b"")
    validate(str(tmp_path / "clicks"))
    assert capsys.readouterr().out == "0 events: 0 valid, 0 refused, 0 warnings\n"


def test_rates_come_from_the_settings_and_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, config = tmp_path / "clicks.jsonl", tmp_path / "settings.yaml"
    file.write_bytes(lines(event(occurred_at=datetime.now(UTC).isoformat(), currency="EUR")))
    config.write_text('money: {rates: {EUR: "1.0842"}}')
    validate(str(file), config=config)
    assert capsys.readouterr().out.endswith("1 event: 1 valid, 0 refused, 0 warnings\n")
    with pytest.raises(typer.Exit) as exited:
        validate(str(file))
    assert exited.value.exit_code == 1
    shown = capsys.readouterr()
    assert "unknown_currency: currency: there is no rate for EUR" in shown.out
    assert "--config FILE" in shown.err


@pytest.mark.parametrize("name", ["missing-clicks.jsonl", "clicks"])
def test_a_file_that_cannot_be_read_is_status_2(tmp_path: Path, name: str) -> None:
    (tmp_path / "clicks").mkdir()
    shown = command(tmp_path / name)
    assert shown.returncode == 2
    assert shown.stdout == b""
    assert shown.stderr.decode().startswith(f"campaignwatch: {tmp_path / name}: cannot be read: ")
