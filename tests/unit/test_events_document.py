"""docs/events.md, the contract in words, names what the code has: fields, reasons, limits, and examples that are taken."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from streams.config import EVENT_TOPICS, INPUT_TOPICS, Money, Settings, Topic
from streams.events.fields import LONGEST_CURVE
from streams.events.json_text import MAX_BYTES
from streams.events.models import DAY_MS, FUTURE_MS, KIND_PATTERN, LONGEST_PERIOD, MODELS, Budget, Event, Targets
from streams.events.money import MAX_AMOUNT, MAX_MICROS, MICRO
from streams.events.parsing import KEYED_TOPICS, parse
from streams.events.refusal import Reason
from streams.events.schema import ASYNCAPI_FILE, EXAMPLES, schema
from streams.events.validating import REMEMBERED, validate
from streams.panes.ladder import Ladder

DOCUMENT = Path(__file__).parents[2] / "docs/events.md"
TEXT = DOCUMENT.read_text("utf-8")


def table(mark: str) -> list[list[str]]:
    """The cells of the table that follows `<!-- mark -->`, without its head."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n\n((?:\|.*\n)+)", TEXT)
    assert found is not None, mark
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in found[1].splitlines()]
    return rows[2:]


def table_of(topic: Topic) -> list[list[str]]:
    return table(f"fields: {topic.value}")


def names(rows: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in rows]


def test_the_shared_fields_are_those_of_every_event_in_their_order() -> None:
    rows = table("fields: shared")
    assert names(rows) == list(Event.model_fields)
    assert [row[1] == "yes" for row in rows] == [field.is_required() for field in Event.model_fields.values()]


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_every_field_of_a_topic_has_its_row(topic: Topic) -> None:
    shared = Event.model_fields if topic in EVENT_TOPICS else {}
    fields = MODELS[topic].model_fields
    # Shared ones stand here again only where the topic asks for more.
    own = {name for name, field in fields.items() if name not in shared or field.is_required() != shared[name].is_required()}
    rows = table_of(topic)
    assert sorted(names(rows)) == sorted(own)
    assert {row[0].strip("`"): row[1] == "yes" for row in rows} == {name: fields[name].is_required() for name in own}


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_lengths_limits_and_defaults_are_those_of_the_schema(topic: Topic) -> None:
    for name, kind in [
        (row[0].strip("`"), row[2]) for row in [*(table("fields: shared") if topic in EVENT_TOPICS else []), *table_of(topic)]
    ]:
        field = schema(topic)["properties"][name]
        if kind.startswith("text, ") and "array" not in kind:
            assert f"{field['maxLength']:,}" in kind, name
            assert ("1 to " in kind) == ("minLength" in field) or name == "platform", name
        if "[money]" in kind and "object" not in kind:
            assert {"type": "number", "minimum": 0, "maximum": MAX_AMOUNT} in field["anyOf"], name
        if "default" in field:
            assert str(field["default"]) in kind.rpartition("default")[2], name


def test_parts_words_and_patterns_are_those_of_the_models() -> None:
    rows = {topic: {row[0].strip("`"): row for row in table_of(topic)} for topic in INPUT_TOPICS}
    for name in (*Budget.model_fields, *Targets.model_fields):
        assert f"`{name}`" in rows[Topic.CAMPAIGNS]["budget"][2] + rows[Topic.CAMPAIGNS]["targets"][2]
    for topic in (Topic.CONVERSIONS, Topic.ENGAGEMENTS):
        assert rows[topic]["kind"][2] == f"`{KIND_PATTERN}`"
        assert "`new` is reserved" in rows[topic]["kind"][3]
    assert all(f"`{word}`" in rows[Topic.CAMPAIGNS]["pacing"][2] for word in ("even", "profile", "asap"))
    assert f"{LONGEST_CURVE:,} weights" in rows[Topic.CAMPAIGNS]["pacing"][2]
    assert f"0 to {DAY_MS:,}" in rows[Topic.ENGAGEMENTS]["dwell_ms"][2]
    assert f"at most {LONGEST_PERIOD.days} days later" in rows[Topic.SPEND]["period_end"][3]


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    for said in (
        f"at most {MAX_BYTES:,} bytes",
        f"From 0 to {MAX_AMOUNT:,}",
        f"more than {MAX_MICROS // MICRO:,} after",
        f"more than {FUTURE_MS // 60_000} minutes after the record's time",
        f"{Ladder(Settings.model_construct().streams.ladder).retention // 86_400_000} days by default",
        f"{Settings.model_construct().streams.dedupe_horizon / 3600:.0f} hour by default",
        f"the last {REMEMBERED:,}",
    ):
        assert said in " ".join(TEXT.split()), said


def test_every_reason_is_explained_with_what_to_do() -> None:
    rows = table("reasons")
    assert names(rows) == [reason.value for reason in Reason]
    assert all(len(row) == 3 and row[1] and row[2] for row in rows)


def test_every_topic_is_listed_with_its_key_and_its_schema() -> None:
    prefix = Settings.model_construct().kafka.topic_prefix
    for topic in Topic:
        (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{prefix}.{topic.value}` |")]
        assert f"(schemas/{topic.value}.schema.json)" in row
        assert ("required" in row) == (topic in KEYED_TOPICS)
    assert f"(schemas/{ASYNCAPI_FILE})" in TEXT


@pytest.mark.parametrize("topic", INPUT_TOPICS)
def test_the_worked_examples_are_those_of_the_schemas_and_are_taken(topic: Topic) -> None:
    found = re.search(rf"<!-- example: {topic.value} -->\n```json\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == EXAMPLES[topic]
    parse(topic, found[1].encode(), EXAMPLES[topic]["campaign_id"].encode(), Money())


def test_the_answer_of_validate_is_what_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks = [{**EXAMPLES[Topic.CLICKS], "event_id": f"clk-{i}", "occurred_at": datetime.now(UTC).isoformat()} for i in range(12)]
    clicks[1]["campaignId"] = clicks[1].pop("campaign_id")
    clicks[6]["event_id"] = clicks[2]["event_id"]
    (tmp_path / "clicks.jsonl").write_text("\n".join(map(json.dumps, clicks)), "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit):
        validate("clicks.jsonl")
    assert f"<!-- answer -->\n```\n{capsys.readouterr().out}```" in TEXT
