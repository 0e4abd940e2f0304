"""A mapping is refused with the file, the key and the reason; the ones that come along are good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.config import Topic
from streams.events.models import MODELS
from streams.replay.mapping import BUNDLED, FIELDS, MappingError, load_mapping

GOOD: dict[str, Any] = {
    "time": {"column": "ts", "unit": "ms"},
    "columns": {"campaign_id": "campaign"},
    "constants": {"channel": "search"},
    "events": [{"topic": "clicks"}],
}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def changed(**parts: Any) -> dict[str, Any]:
    return {**GOOD, **parts}


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_mappings_that_come_along_are_good(path: Path) -> None:
    assert load_mapping(path).description
    assert load_mapping(Path(path.stem)) == load_mapping(path)


@pytest.mark.parametrize("topic", FIELDS)
def test_a_mapping_may_fill_every_field_of_the_contract(topic: Topic) -> None:
    made_by_the_replay = {"event_id", "occurred_at", "period_start", "period_end"}
    assert set(FIELDS[topic]) == set(MODELS[topic].model_fields) - made_by_the_replay


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "keys such as `time:`"),
        (changed(tme=1), "tme: there is no such key"),
        (changed(time={}), "time.column: this key is needed"),
        (changed(time={"column": "ts", "zone": "Mars/Olympus"}), "time.zone: 'Mars/Olympus' is no IANA time zone"),
        (changed(time={"column": "ts", "unit": "ms", "format": "%Y"}), "not both"),
        (changed(time={"column": "ts", "length": "1w"}), "time.length: write a length"),
        (changed(time={"column": "d", "slot": {"column": "s", "per_day": 7}}), "time.slot.per_day: a day does not divide into 7"),
        (changed(columns={"campaign_id": "c", "colour": "x"}), "columns.colour: there is no such field here; there are campaign_id"),
        (changed(events=[{"topic": "clicks", "columns": {"kind": "k"}}]), "events.0.columns.kind: there is no such field"),
        (changed(events=[{"topic": "engagements"}]), "events.0: engagements needs `kind`"),
        (changed(events=[{"topic": "alerts"}]), "events.0.topic: a replay fills clicks, conversions, engagements, spend; alerts is not"),
        (changed(events=[{"topic": "click"}]), "events.0.topic: a replay fills clicks, conversions, engagements, spend; click is not"),
        (changed(events=[{"topic": "clicks", "count": "n"}]), "events.0.count: counted events are spread over a period"),
        (changed(events=[{"topic": "clicks", "event_id": "{event}"}]), "every event would have the same id"),
        (changed(events=[{"topic": "clicks", "event_id": "{row!r}"}]), "without : or !"),
        (changed(events=[{"topic": "clicks", "constants": {"cost": "many"}}]), "cost: got 'many', expected a number"),
        (changed(explode="e", events=[{"topic": "clicks", "event_id": "{row}"}]), "need {item}"),
        (changed(events=[]), "events: List should have at least 1 item"),
        (changed(columns={"campaign_id": "c", "event_id": "id"}), "write it as a template"),
        (changed(columns={"campaign_id": "c", "occurred_at": "t"}), "comes from `time`"),
        (changed(time={"column": "t", "length": "1h"}, events=[{"topic": "clicks", "count": "n", "event_id": "{row}"}]), "need {n}"),
        (
            changed(time={"column": "t", "length": "1h"}, events=[{"topic": "clicks", "count": "n", "columns": {"cost": "c"}}]),
            "`cost` would be booked once per counted event",
        ),
    ],
)
def test_a_mapping_is_refused_with_file_key_and_reason(tmp_path: Path, content: object, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(MappingError) as refused:
        load_mapping(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_a_missing_file_names_the_mappings_that_need_none(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="open-bandit, otto, snapchat, tabmo"):
        load_mapping(tmp_path / "absent.yaml")


def test_an_events_own_fields_come_before_the_mappings(tmp_path: Path) -> None:
    content = changed(events=[{"topic": "clicks", "constants": {"campaign_id": "c-1"}}, {"topic": "clicks", "columns": {"channel": "ch"}}])
    mapping = load_mapping(written(tmp_path, content))
    columns, constants = mapping.fields_of(mapping.events[0])
    assert (columns, constants) == ({}, {"campaign_id": "c-1", "channel": "search"})
    columns, constants = mapping.fields_of(mapping.events[1])
    assert ({field: column.column for field, column in columns.items()}, constants) == ({"campaign_id": "campaign", "channel": "ch"}, {})
