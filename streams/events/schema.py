"""JSON Schema of every topic and an AsyncAPI document of them all, and the command that prints them.

What producers send is described by the models, field by field, so that the schemas say what the arbiter (`events.parsing`) says. A schema
takes everything that the arbiter takes; it cannot tell times that the calendar lacks, unknown currencies, wrong keys, lone surrogates, or
whether one field fits another. Only keywords that mean the same in draft 7 are used, which is what AsyncAPI builds on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import override

from streams.api.pages import SHAPES
from streams.config import INPUT_TOPICS, Settings, Topic, load
from streams.errors import UserError
from streams.events.json_text import MAX_BYTES
from streams.events.models import MODELS, CampaignId
from streams.events.parsing import KEYED_TOPICS
from streams.events.refusal import Reason
from streams.options import ConfigOption
from streams.topics import TopicPlan, plan

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Version of what the topics hold: the first number changes when something that stood there is renamed or reinterpreted.
VERSION = "1.0"
ASYNCAPI_FILE = "asyncapi.json"

#: A record of each topic, as documents show it.
EXAMPLES: Mapping[Topic, Schema] = {
    Topic.CLICKS: {
        "event_id": "clk-8f14e45f",
        "occurred_at": "2026-11-23T03:24:33.123Z",
        "campaign_id": "summer-sale",
        "channel": "search",
        "platform": "google",
        "keyword": "running shoes",
        "region": "de-be",
        "user_id": "u-1972",
        "cost": "0.42",
        "currency": "USD",
    },
    Topic.CONVERSIONS: {
        "event_id": "cnv-c9f0f895",
        "occurred_at": "2026-11-23T05:41:07+02:00",
        "campaign_id": "summer-sale",
        "channel": "search",
        "kind": "purchase",
        "value": "89.90",
        "currency": "USD",
        "order_id": "o-20418",
        "customer_type": "new",
        "clicked_at": "2026-11-23T03:24:33.123Z",
        "user_id": "u-1972",
    },
    Topic.ENGAGEMENTS: {
        "event_id": "eng-45c48cce",
        "occurred_at": 1795404271950,
        "campaign_id": "summer-sale",
        "channel": "search",
        "kind": "impression",
        "platform": "google",
        "creative_id": "banner-7",
        "load_ms": 840,
    },
    Topic.SPEND: {
        "event_id": "spd-d3d94468",
        "occurred_at": "2026-11-23T04:05:00Z",
        "campaign_id": "summer-sale",
        "channel": "search",
        "platform": "google",
        "period_start": "2026-11-23T03:00:00Z",
        "period_end": "2026-11-23T04:00:00Z",
        "amount": "61.35",
        "currency": "USD",
        "revision": 1,
    },
    Topic.CAMPAIGNS: {
        "campaign_id": "summer-sale",
        "name": "Summer sale",
        "channel": "search",
        "platform": "google",
        "owner": "maria",
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-01",
        "ends_on": "2026-11-30",
        "budget": {"daily": "1500", "monthly": "40000"},
        "currency": "USD",
        "pacing": "profile",
        "targets": {"cpa": "25", "roas": "3.5"},
        "calendar": {"2026-11-27": 3},
        "labels": {"team": "north"},
    },
    Topic.QUARANTINE: {
        "reason": "missing_field",
        "detail": "campaign_id: required, but absent, null or empty",
        "topic": "marketing.clicks",
        "partition": 3,
        "offset": 1207,
        "timestamp": 1795404273456,
        "key": "c3VtbWVyLXNhbGU=",
        "value": "eyJldmVudF9pZCI6ICJjbGstMSIsICJvY2N1cnJlZF9hdCI6IDE3OTU0MDQyNzMxMjMsICJjaGFubmVsIjogInNlYXJjaCJ9",
        "quarantined_at": "2026-11-23T03:24:34.012Z",
    },
    Topic.ALERTS: {
        "incident_id": "i-5f2b9c",
        "change": "opened",
        "seq": 1,
        "at": "2026-11-23T03:26:00Z",
        "rule": "budget_burn",
        "severity": "critical",
        "cube": "campaign",
        "key": {"campaign_id": "summer-sale"},
        "measure": "spend",
        "observed": 12.4,
        "expected": {"low": 0.6, "mid": 1.1, "high": 1.6},
        "window": {"from": "2026-11-23T03:24:00Z", "to": "2026-11-23T03:26:00Z"},
        "money_at_stake": 339.0,
        "explanation": "Spend is 11 times the plan of the last two minutes. Look at the bids of the newest keywords first.",
        "offsets": {"marketing.clicks:0": 41288},
        "opened_at": "2026-11-23T03:26:00Z",
        "name": "Summer sale",
        "rule_version": "1",
    },
}

_BASE64: Schema = {"type": ["string", "null"], "contentEncoding": "base64"}
_QUARANTINE: Schema = {
    "title": "Quarantined",
    "description": "A record that was refused, whole. The same topic, partition and offset twice are a repeat. Where left_out_bytes is "
    "there, key and value are null: they were so long together, of a record that came compressed, that this topic does not take them.",
    "type": "object",
    "properties": {
        "reason": {
            "anyOf": [{"enum": [reason.value for reason in Reason]}, {"type": "string"}],
            "description": "Stable code of what is wrong. New ones may be added.",
        },
        "detail": {"type": "string", "description": "In words: the field, what came and what is expected. Personal data is not shown."},
        "topic": {"type": "string", "description": "Topic of the refused record."},
        "partition": {"type": "integer", "minimum": 0, "description": "Its partition."},
        "offset": {"type": "integer", "minimum": 0, "description": "Its offset in the partition."},
        "timestamp": {"type": ["integer", "null"], "description": "Its record time, epoch ms."},
        "key": _BASE64 | {"description": "Its key, byte for byte; null where it had none."},
        "value": _BASE64 | {"description": "Its value, byte for byte; null where it had none. It may hold personal data."},
        "quarantined_at": {"type": "string", "format": "date-time", "description": "When it was refused."},
    },
    "required": ["reason", "detail", "topic", "partition", "offset", "timestamp", "key", "value", "quarantined_at"],
    "additionalProperties": True,
}
_ALERT = "An incident as it stands after `change`. One incident_id and seq twice are a repeat; seq counts from 1 without gaps."

#: What a topic is for, and what its record is called.
_SUMMARIES: Mapping[Topic, tuple[str, str]] = {
    Topic.CLICKS: ("click", "Clicks on ads."),
    Topic.CONVERSIONS: ("conversion", "Leads, signups, purchases, refunds and the like."),
    Topic.ENGAGEMENTS: ("engagement", "Impressions, and what people did with what they were shown."),
    Topic.SPEND: ("spend", "What ad platforms report to have spent, with restatements."),
    Topic.CAMPAIGNS: ("campaign", "The registry of campaigns: the newest record of a key counts."),
    Topic.QUARANTINE: ("quarantined", "Records that were refused, with the reason."),
    Topic.ALERTS: ("incidentChange", "Every change of every incident."),
}
_DELETED = "campaignDeleted"


class SchemaError(UserError):
    """A schema cannot be shown or written. The message says why and what there is."""


class _Published(GenerateJsonSchema):
    """As pydantic writes it, but null and "" stand for an absent field, and no titles repeat the names of fields."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value

    @override
    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    @override
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        published = _or_blank(self.generate_inner(schema["schema"]))
        default = schema.get("default")
        # The only default of money is 0.
        return published if default is None else published | {"default": default if isinstance(default, str) else int(default)}


def _or_blank(schema: Schema) -> Schema:
    """The schema of an optional field: `schema`, or null, or ""."""
    if "enum" in schema:
        return schema | {"enum": [*schema["enum"], "", None]}
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"enum": ["", None]}]}
    if schema.get("type") == "string" and "pattern" not in schema:
        return {"type": ["string", "null"]} | {name: part for name, part in schema.items() if name not in ("type", "minLength")}
    return {"anyOf": [schema, {"enum": ["", None]}]}


def _inlined(part: Any, definitions: Mapping[str, Schema]) -> Any:
    """`part` with what it refers to in its place, so that it can stand in any document."""
    if isinstance(part, dict):
        if "$ref" in part:
            return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(inner, definitions) for name, inner in part.items()}
    return [_inlined(inner, definitions) for inner in part] if isinstance(part, list) else part


def _of_model(topic: Topic) -> Schema:
    made = MODELS[topic].model_json_schema(schema_generator=_Published)
    content: Schema = _inlined(made, made.pop("$defs", {}))
    # Pydantic puts these last; a reader looks for them first.
    head = {name: content.pop(name) for name in ("title", "description", "type")}
    return head | content | {"additionalProperties": True}


def payload(topic: Topic) -> Schema:
    """The schema of the topic's values, without the marks of a document of its own."""
    if topic is Topic.ALERTS:
        content = {"title": "IncidentChange", **SHAPES["Incident"], "description": _ALERT}
    elif topic is Topic.QUARANTINE:
        content = _QUARANTINE
    else:
        content = _of_model(topic)
    return {**content, "examples": [EXAMPLES[topic]]}


def schema(topic: Topic) -> Schema:
    """The topic's JSON Schema, draft 2020-12, as a document of its own."""
    return {"$schema": DIALECT, **payload(topic)}


def asyncapi(settings: Settings) -> Schema:
    """The AsyncAPI 3 document of all topics: what Campaignwatch reads and writes on the broker that `settings` name."""
    plans = dict(zip(Topic, plan(settings), strict=True))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Campaignwatch",
            "version": VERSION,
            "description": "Producers send marketing events and the registry of campaigns; what cannot be counted comes back in "
            "quarantine, what is abnormal as changes of incidents. What producers send is one UTF-8 JSON object a record, of at most "
            f'{MAX_BYTES} bytes; in it null and "" are the same as an absent field, and unknown fields are ignored.',
        },
        "defaultContentType": "application/json",
        "servers": dict(_servers(settings)),
        "channels": {topic.value: _channel(topic, plans[topic]) for topic in Topic},
        "operations": dict(_operation(topic) for topic in Topic),
        "components": {
            "messages": {name: message for topic in Topic for name, message in _messages(topic).items()},
            "schemas": {topic.value: payload(topic) for topic in Topic},
        },
    }


def _servers(settings: Settings) -> Iterator[tuple[str, Schema]]:
    hosts = [host.strip() for host in settings.kafka.bootstrap_servers.split(",") if host.strip()]
    for number, host in enumerate(hosts, 1):
        yield (
            "kafka" if len(hosts) == 1 else f"kafka-{number}",
            {"host": host, "protocol": "kafka-secure" if settings.kafka.tls else "kafka"},
        )


def _channel(topic: Topic, planned: TopicPlan) -> Schema:
    configuration: Schema = {"cleanup.policy": [planned.configs["cleanup.policy"]]}
    configuration |= {name: int(planned.configs[name]) for name in ("retention.ms", "max.message.bytes") if name in planned.configs}
    return {
        "address": planned.name,
        "title": topic.value,
        "summary": _SUMMARIES[topic][1],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages(topic)},
        "bindings": {
            "kafka": {
                "topic": planned.name,
                "partitions": planned.partitions,
                "replicas": planned.replication_factor,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(topic: Topic) -> tuple[str, Schema]:
    """What Campaignwatch does with the topic: its name and the operation."""
    action = "receive" if topic in INPUT_TOPICS else "send"
    return f"{action}{topic.value.capitalize()}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.value}"},
        "summary": _SUMMARIES[topic][1],
        "messages": [{"$ref": f"#/channels/{topic.value}/messages/{name}"} for name in _messages(topic)],
    }


def _messages(topic: Topic) -> dict[str, Schema]:
    name = _SUMMARIES[topic][0]
    described = {
        "name": name,
        "title": payload(topic)["title"],
        "summary": payload(topic)["description"],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{topic.value}"},
        "bindings": _key(topic),
        "examples": [{"name": name, "payload": EXAMPLES[topic]}],
    }
    if topic is not Topic.CAMPAIGNS:
        return {name: described}
    deleted = {
        "name": _DELETED,
        "title": "Deleted campaign",
        "summary": "Deletes the campaign of its key. The record has no value at all; the JSON text null is not that.",
        "bindings": _key(topic),
    }
    return {name: described, _DELETED: deleted}


def _key(topic: Topic) -> Schema:
    campaign_id = CampaignId.__metadata__[0].schema()  # type: ignore[attr-defined]
    if topic in KEYED_TOPICS:
        key = campaign_id | {"description": "The campaign_id; a record with another key is refused."}
    elif topic in INPUT_TOPICS:
        key = campaign_id | {"description": "The campaign_id, recommended: duplicates are found among records with the same key."}
    elif topic is Topic.QUARANTINE:
        key = {"type": ["string", "null"], "description": "The key of the refused record, byte for byte."}
    else:
        key = {"type": "string", "description": "The incident_id."}
    return {"kafka": {"key": key, "bindingVersion": "0.5.0"}}


def text(document: Mapping[str, Any]) -> str:
    """A document as it is printed and committed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def files(settings: Settings) -> dict[str, str]:
    """Every document by the name of its file."""
    schemas = {f"{topic.value}.schema.json": text(schema(topic)) for topic in Topic}
    return schemas | {ASYNCAPI_FILE: text(asyncapi(settings))}


def print_schema(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="TOPIC", help="The JSON Schema of this one. Default: the AsyncAPI document, which holds all."),
    ] = None,
    only_asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="Only the AsyncAPI document; it is what is printed anyway, but not all that --out writes.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write files instead: of every topic, and the AsyncAPI document.")] = None,
    config: ConfigOption = None,
) -> None:
    """Print the JSON Schema of a topic, or an AsyncAPI document of all topics.

    The topics are clicks, conversions, engagements, spend, campaigns, quarantine and alerts.
    """
    settings = load(config)
    if topic is not None and only_asyncapi:
        raise SchemaError("TOPIC and --asyncapi exclude each other: the AsyncAPI document is of all topics")
    every = files(settings)
    name = ASYNCAPI_FILE if topic is None else f"{_topic(topic, settings).value}.schema.json"
    if out is None:
        typer.echo(every[name], nl=False)
        return
    wanted = every if topic is None and not only_asyncapi else {name: every[name]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, content in wanted.items():
            (out / file).write_text(content, encoding="utf-8")
            typer.echo(out / file)
    except OSError as error:
        raise SchemaError(f"--out {out}: {error.strerror}: {error.filename}") from error


def _topic(name: str, settings: Settings) -> Topic:
    for topic in Topic:
        if name in (topic.value, settings.topic(topic)):
            return topic
    raise SchemaError(f"{name}: there is no such topic; there are {', '.join(Topic)}")
