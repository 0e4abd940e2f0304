"""The schemas say what the arbiter says: they take all that it takes, and refuse what JSON Schema can tell is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alerts.incidents.change import Change, ChangeKind, Expected, Severity, WindowOf
from streams.config import EVENT_TOPICS, INPUT_TOPICS, Kafka, Money, Settings, Topic
from streams.events.json_text import Number, read_object
from streams.events.models import MODELS, Budget, Campaign, Targets
from streams.events.parsing import parse
from streams.events.refusal import Reason, Refusal
from streams.events.schema import DIALECT, EXAMPLES, SchemaError, asyncapi, files, print_schema, schema
from streams.quarantine import decode_quarantined, quarantine_record
from tests.unit.hostile_events import DECIMALS, NUMBERS, OPTIONAL, OWN, RAW, SHARED, TEXTS, TIMES, Sent, events, valid

SCHEMAS = Path(__file__).parents[2] / "docs/schemas"
#: As if nobody had set anything, whatever the environment of the tests is.
DEFAULTS = Settings.model_construct()
MONEY = Money.model_validate({"rates": {"EUR": "1.0842", "JPY": "0.0064", "BIG": "1000000"}})
LITERALS = [json.dumps(text) for text in dict.fromkeys([*TEXTS, *TIMES, *DECIMALS])] + NUMBERS + RAW


@cache
def validator(topic: Topic) -> Any:
    return jsonschema.Draft202012Validator(schema(topic))


def for_validator(value: Any, depth: int = 0) -> Any:
    """A value as a validator gets it from a JSON reader. What no known field can hold so deep is left out."""
    if isinstance(value, Number):
        return int(value.text) if re.fullmatch(r"-?[0-9]{1,400}", value.text) else float(value.text)
    if isinstance(value, dict):
        return {name: for_validator(part, depth + 1) for name, part in value.items()} if depth < 6 else {}
    if isinstance(value, list):
        return [for_validator(part, depth + 1) for part in value] if depth < 6 else []
    return value


def arbiter_takes(topic: Topic, sent: Sent) -> bool:
    try:
        parse(topic, sent.value, sent.key, MONEY)
    except Refusal:
        return False
    return True


def schema_takes(topic: Topic, value: Any) -> bool:
    return bool(validator(topic).is_valid(value))


def taken_by_both(topic: Topic, sent: Sent) -> bool:
    """Whether the arbiter takes it; if so, the schema must."""
    taken = sent.value is not None and arbiter_takes(topic, sent)
    if taken:
        problems = [error.message for error in validator(topic).iter_errors(for_validator(read_object(sent.value or b"")))]
        assert problems == [], (sent.value or b"")[-200:]
    return taken


def campaign(**fields: Any) -> dict[str, Any]:
    return {"campaign_id": "c-1", "name": "Spring"} | fields


def event(topic: Topic) -> dict[str, Any]:
    return campaign() if topic is Topic.CAMPAIGNS else dict(valid(topic))


# The committed documents.


def test_the_committed_documents_are_true() -> None:
    made = files(DEFAULTS)
    assert {path.name for path in SCHEMAS.iterdir()} == set(made)
    for name, content in made.items():
        assert (SCHEMAS / name).read_text("utf-8") == content, f"{name}: run: campaignwatch schema --out docs/schemas"


@pytest.mark.parametrize("topic", Topic)
def test_every_schema_is_one_and_every_example_fits(topic: Topic) -> None:
    made = schema(topic)
    assert made["$schema"] == DIALECT
    assert "$ref" not in json.dumps(made), "a schema must stand alone"
    jsonschema.Draft202012Validator.check_schema(made)
    # AsyncAPI's own schemas are of draft 7.
    jsonschema.Draft7Validator.check_schema({name: part for name, part in made.items() if name != "$schema"})
    validator(topic).validate(EXAMPLES[topic])
    assert made["examples"] == [EXAMPLES[topic]]


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_every_field_is_described_and_every_example_is_taken(topic: Topic) -> None:
    made = schema(topic)
    assert list(made["properties"]) == list(MODELS[topic].model_fields)
    assert all(field["description"].strip() for field in made["properties"].values())
    assert made["required"] == [name for name, field in MODELS[topic].model_fields.items() if field.is_required()]
    assert made["additionalProperties"] is True
    parse(topic, json.dumps(EXAMPLES[topic]).encode(), EXAMPLES[topic]["campaign_id"].encode(), MONEY)


# AsyncAPI.


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def resolved(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), reference
    part: Any = document
    for name in reference[2:].split("/"):
        assert name in part, reference
        part = part[name]
    return part


def test_the_asyncapi_document_has_all_that_version_3_asks_for() -> None:
    document = asyncapi(DEFAULTS)
    assert document["asyncapi"] == "3.0.0"
    assert set(document["info"]) >= {"title", "version", "description"}
    assert set(document) <= {"asyncapi", "info", "defaultContentType", "servers", "channels", "operations", "components"}
    assert document["servers"] == {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka"}}
    assert {channel["address"] for channel in document["channels"].values()} == {DEFAULTS.topic(topic) for topic in Topic}
    for reference in references(document):
        resolved(document, reference)
    used = {resolved(document, reference)["name"] for reference in references(document["channels"])}
    assert used == set(document["components"]["messages"])


def test_what_is_read_is_received_and_what_is_written_is_sent() -> None:
    document = asyncapi(DEFAULTS)
    actions = {operation["channel"]["$ref"].rpartition("/")[2]: operation["action"] for operation in document["operations"].values()}
    assert actions == {topic.value: "receive" if topic in INPUT_TOPICS else "send" for topic in Topic}
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        messages = resolved(document, channel)["messages"]
        assert [message["$ref"] for message in operation["messages"]] == [f"{channel}/messages/{name}" for name in messages]


def test_messages_carry_the_schemas_and_say_what_their_key_is() -> None:
    document = asyncapi(DEFAULTS)
    for topic in Topic:
        payload = document["components"]["schemas"][topic.value]
        assert {"$schema": DIALECT, **payload} == schema(topic)
        for reference in references(document["channels"][topic.value]):
            message = resolved(document, reference)
            assert message["bindings"]["kafka"]["key"]["description"]
            if message["name"] == "campaignDeleted":
                assert "payload" not in message, "a deletion has no value at all"
            else:
                assert message["payload"] == {"$ref": f"#/components/schemas/{topic.value}"}
                assert message["examples"][0]["payload"] == EXAMPLES[topic]


def test_the_asyncapi_document_names_the_brokers_and_topics_of_the_settings() -> None:
    kafka = Kafka(bootstrap_servers="k1.example:9092, k2.example:9092", topic_prefix="shop", partitions=12)
    document = asyncapi(DEFAULTS.model_copy(update={"kafka": kafka}))
    assert [server["host"] for server in document["servers"].values()] == ["k1.example:9092", "k2.example:9092"]
    assert document["channels"]["spend"]["address"] == "shop.spend"
    assert document["channels"]["spend"]["bindings"]["kafka"]["partitions"] == 12
    assert document["channels"]["campaigns"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]


# Schema and arbiter.


@pytest.mark.parametrize("topic", EVENT_TOPICS)
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_schema_takes_whatever_the_arbiter_takes(topic: Topic, data: st.DataObject) -> None:
    taken_by_both(topic, data.draw(events(topic)))


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_a_schema_takes_every_listed_literal_that_the_arbiter_takes(topic: Topic) -> None:
    plain = json.dumps(event(topic))[:-1]
    names = list(MODELS[topic].model_fields)
    if topic is not Topic.CAMPAIGNS:
        assert set(names) == {*SHARED, *OPTIONAL, *OWN[topic]}
    for name in [*names, "unknown"]:
        key = event(topic)["campaign_id"].encode()
        taken = [taken_by_both(topic, Sent(f'{plain}, "{name}": {literal}}}'.encode(), key)) for literal in LITERALS]
        if name == "campaign_id":
            taken += [taken_by_both(topic, Sent(f'{plain}, "{name}": {json.dumps(text)}}}'.encode(), text.encode())) for text in TEXTS]
        assert True in taken, f"{name}: nothing was taken, so nothing was compared"


AMOUNTS = [*NUMBERS, *map(json.dumps, DECIMALS), '""', "null", "true", "[]", "{}"]
DAYS = ["2026-11-27", "2024-02-29", "2026-02-29", "2026-1-1", "20261127", "2026-11-27T00:00:00Z", "27.11.2026", "", "x"]
ZONES = ["UTC", "Europe/Berlin", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "berlin", "+01:00"]


def structures() -> Iterator[str]:
    """Members of a campaign that hold something: every amount in every place, and shapes that are right, wrong and empty."""
    for part, model in (("budget", Budget), ("targets", Targets)):
        yield from (f'"{part}": {{"{name}": {literal}}}' for name in model.model_fields for literal in AMOUNTS)
        yield from (f'"{part}": {literal}' for literal in ("{}", '{"other": 1}', "[]", "1", '"x"'))
    for literal in AMOUNTS:
        yield f'"pacing": [{literal}]'
        yield f'"pacing": [1, {literal}]'
        yield f'"calendar": {{"2026-11-27": {literal}}}'
        yield f'"calendar": [{{"date": "2026-11-27", "factor": {literal}, "why": "x"}}]'
    for length in (0, 1_440, 1_441):
        yield f'"pacing": {[1] * length}'
    yield from (f'"pacing": {literal}' for literal in ("[0, 0]", '"curve"', "{}"))
    yield from (f'"calendar": {literal}' for literal in ("[]", "{}", "[1]", '[{"date": "2026-11-27"}]', '"2026-11-27"'))
    for day in DAYS:
        yield f'"calendar": {{"{day}": 1}}'
        yield from (f'"{name}": "{day}"' for name in ("starts_on", "ends_on"))
    for text in map(json.dumps, TEXTS):
        yield f'"labels": {{"team": {text}}}'
        yield f'"labels": [{text}]'
    yield f'"labels": {{"": null, "{"x" * 300}": ""}}'
    yield from (f'"labels": {literal}' for literal in ('{"team": 1}', '{"team": null}', "{}", "[]", "[null]", '"x"'))
    yield from (f'"time_zone": "{zone}"' for zone in ZONES)


def test_the_schema_of_campaigns_takes_what_the_arbiter_takes_inside_of_fields_too() -> None:
    plain = json.dumps(campaign())[:-1]
    taken = [taken_by_both(Topic.CAMPAIGNS, Sent(f"{plain}, {structure}}}".encode(), b"c-1")) for structure in structures()]
    assert 400 < sum(taken) < len(taken)


@pytest.mark.parametrize("topic", INPUT_TOPICS)
@pytest.mark.parametrize("blank", [None, ""])
def test_null_and_empty_are_absent_for_both(topic: Topic, blank: str | None) -> None:
    for name, field in MODELS[topic].model_fields.items():
        content = event(topic) | {name: blank}
        taken = arbiter_takes(topic, Sent(json.dumps(content).encode(), b"c-1"))
        assert (taken, schema_takes(topic, content)) == (not field.is_required(),) * 2, name
    assert schema_takes(topic, event(topic) | {"extra": {"anything": [1, None, "x"]}})


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_a_missing_field_is_refused_by_both(topic: Topic) -> None:
    for name in (name for name, field in MODELS[topic].model_fields.items() if field.is_required()):
        content = {other: value for other, value in (event(topic)).items() if other != name}
        assert not schema_takes(topic, content), name
        assert not arbiter_takes(topic, Sent(json.dumps(content).encode(), b"c-1")), name


@pytest.mark.parametrize(
    ("topic", "wrong"),
    [
        (Topic.CLICKS, {"event_id": 1}),
        (Topic.CLICKS, {"event_id": "x" * 129}),
        (Topic.CLICKS, {"occurred_at": "2026-11-23T03:24:33"}),
        (Topic.CLICKS, {"occurred_at": "2026-11-23"}),
        (Topic.CLICKS, {"occurred_at": "20261123T032433Z"}),
        (Topic.CLICKS, {"occurred_at": "2026-13-23T03:24:33Z"}),
        (Topic.CLICKS, {"occurred_at": "2026-11-23T24:00:00Z"}),
        (Topic.CLICKS, {"occurred_at": "2026-11-23T23:59:60Z"}),
        (Topic.CLICKS, {"occurred_at": "2026-11-23T03:24:33+24:00"}),
        (Topic.CLICKS, {"occurred_at": 1.5}),
        (Topic.CLICKS, {"occurred_at": 253_402_300_800_000}),
        (Topic.CLICKS, {"occurred_at": True}),
        (Topic.CLICKS, {"campaign_id": "a\nb"}),
        (Topic.CLICKS, {"campaign_id": "a\n"}),
        (Topic.CLICKS, {"campaign_id": "a\x85b"}),
        (Topic.CLICKS, {"channel": "\U0001f600" * 65}),
        (Topic.CLICKS, {"region": 5}),
        (Topic.CLICKS, {"region": ["x"]}),
        (Topic.CLICKS, {"user_agent": "x" * 2_049}),
        (Topic.CLICKS, {"cost": -0.01}),
        (Topic.CLICKS, {"cost": 1_000_000_000.01}),
        (Topic.CLICKS, {"cost": "1,50"}),
        (Topic.CLICKS, {"cost": "1000000000.01"}),
        (Topic.CLICKS, {"cost": "-1"}),
        (Topic.CLICKS, {"cost": "1e3"}),
        (Topic.CLICKS, {"cost": " 1"}),
        (Topic.CLICKS, {"cost": True}),
        (Topic.CLICKS, {"currency": "EURO"}),
        (Topic.CLICKS, {"currency": "€"}),
        (Topic.CONVERSIONS, {"kind": "new"}),
        (Topic.CONVERSIONS, {"kind": "Purchase"}),
        (Topic.CONVERSIONS, {"kind": "a" * 65}),
        (Topic.CONVERSIONS, {"customer_type": "loyal"}),
        (Topic.ENGAGEMENTS, {"dwell_ms": 86_400_001}),
        (Topic.ENGAGEMENTS, {"dwell_ms": 1.5}),
        (Topic.ENGAGEMENTS, {"dwell_ms": "100"}),
        (Topic.ENGAGEMENTS, {"rating": 100.5}),
        (Topic.ENGAGEMENTS, {"rating": "5"}),
        (Topic.SPEND, {"revision": -1}),
        (Topic.SPEND, {"amount": None}),
        (Topic.SPEND, {"period_end": "2026-11-23"}),
        (Topic.SPEND, {"period_end": "2026-11-23T01:00:30Z"}),
        (Topic.SPEND, {"period_start": 1_795_392_000_001}),
        (Topic.CAMPAIGNS, {"name": "x" * 257}),
        (Topic.CAMPAIGNS, {"starts_on": "23.11.2026"}),
        (Topic.CAMPAIGNS, {"budget": 100}),
        (Topic.CAMPAIGNS, {"budget": {"daily": -1}}),
        (Topic.CAMPAIGNS, {"targets": {"roas": "high"}}),
        (Topic.CAMPAIGNS, {"pacing": "fast"}),
        (Topic.CAMPAIGNS, {"pacing": []}),
        (Topic.CAMPAIGNS, {"pacing": [0, "0.0"]}),
        (Topic.CAMPAIGNS, {"calendar": {"Friday": 3}}),
        (Topic.CAMPAIGNS, {"calendar": [{"date": "2026-11-27"}]}),
        (Topic.CAMPAIGNS, {"labels": {"team": 5}}),
        (Topic.CAMPAIGNS, {"labels": {"": "x"}}),
        (Topic.CAMPAIGNS, {"time_zone": 1}),
    ],
    ids=lambda part: part.value if isinstance(part, Topic) else "-".join(part),
)
def test_what_json_schema_can_tell_is_refused_by_both(topic: Topic, wrong: dict[str, Any]) -> None:
    content = event(topic) | wrong
    assert not schema_takes(topic, content)
    assert not arbiter_takes(topic, Sent(json.dumps(content).encode(), str(content["campaign_id"]).encode()))


@pytest.mark.parametrize("value", [None, [], "x", 5, True])
def test_only_an_object_is_a_record(value: Any) -> None:
    assert not any(schema_takes(topic, value) for topic in Topic)


# What is written.


@dataclass(frozen=True)
class Record:
    topic: str = "marketing.clicks"
    partition: int = 3
    offset: int = 1207
    timestamp: int | None = 1_795_404_273_456
    key: bytes | None = b"c-1"
    value: bytes | None = b"{"


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("record", [Record(), Record(timestamp=None, key=None, value=None)])
def test_what_is_quarantined_fits_its_schema(reason: Reason, record: Record) -> None:
    written = json.loads(quarantine_record(record, Refusal(reason, "why"), datetime(2026, 11, 23, tzinfo=UTC)).value)
    validator(Topic.QUARANTINE).validate(written)
    assert set(written) == set(schema(Topic.QUARANTINE)["properties"]) == set(schema(Topic.QUARANTINE)["required"])


def test_the_example_of_quarantine_is_a_record_that_the_arbiter_refuses_so() -> None:
    refused = decode_quarantined(json.dumps(EXAMPLES[Topic.QUARANTINE]).encode())
    with pytest.raises(Refusal) as caught:
        parse(Topic.CLICKS, refused.value, refused.key, MONEY)
    assert (caught.value.reason.value, caught.value.detail) == (refused.reason, refused.detail)


@pytest.mark.parametrize("kind", ChangeKind)
def test_every_change_of_an_incident_fits_its_schema(kind: ChangeKind) -> None:
    at = datetime(2026, 11, 23, 3, 26, tzinfo=UTC)
    change = Change(
        incident_id="i-1",
        change=kind,
        seq=1,
        at=at,
        rule="traffic",
        severity=Severity.CRITICAL,
        cube="campaign_channel",
        key={"campaign_id": "c-1", "channel": None},
        measure="clicks",
        observed=900,
        expected=Expected(low=50, mid=100, high=150),
        window=WindowOf(start=at, to=at),
        money_at_stake=Decimal("12.5"),
        explanation="Nine times as many clicks as usual.",
        offsets={"marketing.clicks:0": 7},
        opened_at=at,
        resolved_at=at if kind is ChangeKind.RESOLVED else None,
    )
    validator(Topic.ALERTS).validate(json.loads(change.to_json()))
    without = change.model_copy(update={"money_at_stake": None, "measure": None, "kpi": "ctr"})
    validator(Topic.ALERTS).validate(json.loads(without.to_json()))
    assert set(schema(Topic.ALERTS)["required"]) <= {field.alias or name for name, field in Change.model_fields.items()}


def test_the_example_of_alerts_is_a_change() -> None:
    change = Change.model_validate(EXAMPLES[Topic.ALERTS])
    assert json.loads(change.to_json()) == EXAMPLES[Topic.ALERTS]


# The command.


def test_without_a_topic_the_asyncapi_document_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_schema()
    everything = capsys.readouterr().out
    print_schema(only_asyncapi=True)
    assert capsys.readouterr().out == everything
    assert json.loads(everything)["asyncapi"] == "3.0.0"


@pytest.mark.parametrize("name", ["clicks", "marketing.clicks"])
def test_a_topic_is_named_with_or_without_its_prefix(capsys: pytest.CaptureFixture[str], name: str) -> None:
    print_schema(name)
    assert json.loads(capsys.readouterr().out) == schema(Topic.CLICKS)


def test_files_are_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_schema(out=tmp_path / "new" / "all")
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "new" / "all" / name) for name in files(DEFAULTS)]
    assert json.loads((tmp_path / "new/all/spend.schema.json").read_text("utf-8")) == schema(Topic.SPEND)
    print_schema("spend", out=tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["spend.schema.json"]


def test_what_cannot_be_printed_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="click: there is no such topic; there are clicks, conversions"):
        print_schema("click")
    with pytest.raises(SchemaError, match="exclude each other"):
        print_schema("clicks", only_asyncapi=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(SchemaError, match=r"file: .*exists"):
        print_schema(out=tmp_path / "file")


def test_campaigns_describe_their_parts() -> None:
    made = schema(Topic.CAMPAIGNS)["properties"]
    for name, model in (("budget", Budget), ("targets", Targets)):
        assert list(made[name]["anyOf"][0]["properties"]) == list(model.model_fields)
    assert made["pacing"]["default"] == Campaign.model_fields["pacing"].default
