"""The pages, declared: path, parameters and the shape of the answer.

The server, the query parser and the OpenAPI document all come from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.api.campaigns import DEFAULT_CAMPAIGNS, MAX_CAMPAIGNS
from streams.api.kpis import DEFAULT_LIMIT, MAX_LIMIT
from streams.api.query import Parameter, one_of, read_condition, read_names, read_sort, whole_number
from streams.api.span import MAX_POINTS
from streams.api.times import LAST_MS, MAX_AGE, read_age, read_length, read_time, write_length
from streams.config import Settings

Schema = Mapping[str, Any]

_TIME: Schema = {"type": "string", "format": "date-time", "examples": ["2026-11-23T03:24:00Z"]}
_MAYBE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_TIME_IN: Schema = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "minimum": 0, "maximum": LAST_MS}],
    "examples": ["2026-11-23T03:24:00Z", 1795404240000],
}
_LENGTH: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,8}[smhd]$", "examples": ["5m"]}
_LARGEST_OFFSET = 1_000_000_000


def _object(required: Schema, optional: Schema | None = None, extra: bool = False) -> Schema:
    shape = {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
    return shape if extra else {**shape, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


#: Shapes of the answers. Their names are those of the OpenAPI document's components.
SHAPES: dict[str, Schema] = {
    "Error": _object({"error": _TEXT}, {"hint": {"type": "string", "description": "What there is, or what to ask instead."}}),
    "Row": {
        "type": "object",
        "description": "The cube's dimensions, then every measure and KPI. Money in units of the reporting currency, all digits written; "
        "null where a KPI cannot be divided or there is nothing to estimate from.",
        "additionalProperties": {"type": ["string", "number", "null"]},
    },
    "KpiPage": _object({"cube": _TEXT, "from": _TIME, "to": _TIME, "complete": _FLAG, "total": _COUNT, "rows": _list(_ref("Row"))}),
    "Point": _object({"time": _TIME, "value": {"type": ["number", "null"]}, "complete": _FLAG}),
    "KpiSeries": _object({"cube": _TEXT, "measure": _TEXT, "from": _TIME, "to": _TIME, "step": _LENGTH, "points": _list(_ref("Point"))}),
    "PartitionLedger": _object(
        {
            "topic": _TEXT,
            "partition": _COUNT,
            "start_offset": {"type": "integer", "minimum": -1},
            "applied_offset": {"type": "integer", "minimum": -1},
            **dict.fromkeys(("in", "applied", "duplicate", "too_late", "quarantined"), _COUNT),
            "watermark": _MAYBE_TIME,
            "record_time": _MAYBE_TIME,
            "retired": {**_FLAG, "description": "The topic has no such partition any more."},
            "breaks": _list(_ref("Break")),
        }
    ),
    "Break": {
        **_object({"kind": _TEXT, "times": _COUNT, "records": _COUNT, "at": _TIME, "detail": _TEXT}),
        "description": "A way in which log and tables did not continue each other: how often, of how many records, and the newest case.",
    },
    "Ledger": _object({"partitions": _list(_ref("PartitionLedger"))}),
    "Campaign": {**_object({"campaign_id": _TEXT}, extra=True), "description": "A campaign of the registry, as its producer sent it."},
    "Campaigns": _object({"total": _COUNT, "campaigns": _list(_ref("Campaign"))}),
    "Incident": {
        **_object(
            {
                "incident_id": _TEXT,
                "change": {"enum": ["opened", "updated", "acknowledged", "snoozed", "resolved", "reopened"]},
                "seq": {"type": "integer", "minimum": 1},
                "at": _TIME,
                "rule": _TEXT,
                "severity": _TEXT,
                "cube": _TEXT,
                "key": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
                "observed": {"type": "number"},
                "window": _object({"from": _TIME, "to": _TIME}),
                "explanation": _TEXT,
            },
            {
                "measure": _TEXT,
                "kpi": _TEXT,
                "expected": _object({"low": {"type": "number"}, "mid": {"type": "number"}, "high": {"type": "number"}}),
                "money_at_stake": {"type": ["number", "null"]},
                "offsets": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
            extra=True,
        ),
        "description": "The newest change of an incident.",
    },
    "Incidents": _object({"total": _COUNT, "incidents": _list(_ref("Incident"))}),
    "Health": _object({"status": _TEXT, "alive": _FLAG, "ready": _FLAG, "details": {"type": "object"}}),
    "Index": _object({"name": _TEXT, "version": _TEXT, "pages": {"type": "object", "additionalProperties": _TEXT}}),
    "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
}


#: Pages for the probes of a container, which know no secret.
WITHOUT_LOGIN = frozenset({"/healthz", "/readyz"})
#: Pages that are cheap, and that tell what is going on when a process is busy.
ALWAYS_ANSWERED = WITHOUT_LOGIN | {"/metrics"}


def _cube(settings_cubes: tuple[str, ...]) -> Parameter:
    return Parameter(
        "cube",
        "the table: which dimensions a row is about",
        {"type": "string", "enum": list(settings_cubes)},
        one_of(*settings_cubes),
        required=True,
    )


def _whole(name: str, meaning: str, low: int, high: int, default: int) -> Parameter:
    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return Parameter(name, meaning, schema, whole_number(low, high), default=default)


def _where(meaning: str, example: str) -> Parameter:
    items = {"type": "string", "pattern": "^[^:]+:", "examples": [example]}
    return Parameter("where", meaning, {"type": "array", "items": items}, read_condition, repeated=True)


_FROM = Parameter("from", "start of the range, included; a multiple of the finest pane still kept", _TIME_IN, read_time)
_TO = Parameter("to", "end of the range, excluded; a multiple of the finest pane still kept", _TIME_IN, read_time)
_WINDOW = Parameter("window", "instead of from and to: this long, up to now rounded up to the alignment", _LENGTH, read_length)
_ROWS_WHERE = _where(
    "NAME:VALUE, a dimension of the cube; for cubes by campaign also an attribute of the registry. Several must all hold. Nothing behind "
    "the colon selects rows without a value",
    "campaign_id:c-1",
)
_OFFSET = _whole("offset", "how many to leave out before the first", 0, _LARGEST_OFFSET, 0)
_NAME_PATTERN = "[a-z][a-z0-9_]*"


@dataclass(frozen=True, slots=True)
class Page:
    """One GET page. `shape` names the answer's shape in SHAPES; None: not JSON."""

    path: str
    summary: str
    shape: str | None
    parameters: tuple[Parameter, ...] = ()
    content_type: str = "application/json"
    #: Answers with this shape, too, when the process is not well (503).
    sick: bool = False


def pages(settings: Settings) -> tuple[Page, ...]:
    """Every page; the cubes that may be asked for are those of `settings`."""
    cube = _cube(tuple(settings.all_cubes))
    return (
        Page("/", "What there is here", "Index"),
        Page(
            "/api/kpis",
            "Rows of a cube over a window, with every measure and KPI",
            "KpiPage",
            (
                cube,
                _FROM,
                _TO,
                _WINDOW,
                Parameter(
                    "sort",
                    "a measure, KPI or dimension; - in front for descending; rows without a value come last",
                    {"type": "string", "pattern": f"^-?{_NAME_PATTERN}$", "examples": ["-spend"]},
                    read_sort,
                ),
                _whole("limit", "rows of a page", 1, MAX_LIMIT, DEFAULT_LIMIT),
                _OFFSET,
                _ROWS_WHERE,
                Parameter(
                    "columns",
                    "measures and KPIs of a row, with commas between them; all when left out",
                    {"type": "string", "pattern": f"^{_NAME_PATTERN}(,{_NAME_PATTERN})*$", "examples": ["clicks,spend,ctr"]},
                    read_names,
                ),
                Parameter(
                    "max_age",
                    f"how old the answer may be, up to {write_length(MAX_AGE)}; when left out it is as the tables are. Who asks the same "
                    "again and again, as a dashboard does, has it at once then. The header Age says how old it is, in seconds",
                    {**_LENGTH, "examples": ["5s"]},
                    read_age,
                    default=0,
                ),
            ),
        ),
        Page(
            "/api/kpis/series",
            f"One measure or KPI over time, of the sum of the selected rows; at most {MAX_POINTS} points",
            "KpiSeries",
            (
                cube,
                Parameter(
                    "measure",
                    "an exact measure, or a KPI over such",
                    {"type": "string", "pattern": f"^{_NAME_PATTERN}$"},
                    str,
                    required=True,
                ),
                _FROM,
                _TO,
                _WINDOW,
                Parameter(
                    "step", "length of a step; a multiple of the alignment", {**_LENGTH, "default": "1m"}, read_length, default=60_000
                ),
                _ROWS_WHERE,
            ),
        ),
        Page("/api/ledger", "Where every record of every topic-partition went", "Ledger"),
        Page(
            "/api/campaigns",
            "The registry of campaigns, by campaign_id",
            "Campaigns",
            (
                _where("NAME:VALUE, an attribute of the registry. Several must all hold", "owner:maria"),
                _whole("limit", "campaigns of a page", 1, MAX_CAMPAIGNS, DEFAULT_CAMPAIGNS),
                _OFFSET,
            ),
        ),
        Page(
            "/api/incidents",
            "The newest change of every incident, the one that opened last first",
            "Incidents",
            (
                Parameter(
                    "state",
                    "which incidents",
                    {"type": "string", "enum": ["open", "resolved", "all"], "default": "all"},
                    one_of("open", "resolved", "all"),
                    default="all",
                ),
                _whole("limit", "incidents of a page", 1, MAX_LIMIT, MAX_LIMIT),
                _OFFSET,
            ),
        ),
        Page("/metrics", "Metrics of this process, in OpenMetrics or the older Prometheus text", None, content_type="text/plain"),
        Page("/healthz", "Whether this process is alive; 503 asks for a restart; without login no details", "Health", sick=True),
        Page(
            "/readyz",
            "Whether this process is ready to do its work; 503 while it is not; without login no details",
            "Health",
            sick=True,
        ),
        Page("/openapi.json", "This interface as an OpenAPI 3.1 document", "Document"),
    )
