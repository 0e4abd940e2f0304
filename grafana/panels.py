"""Panels in the house style, made with Grafana's own builders: each takes a title, what to ask, and how to read the answer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

with warnings.catch_warnings():
    # The builders recommend the newer schema, which Grafana 11.6 and 12 do not read from files.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as common_builders
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
    from grafana_foundation_sdk.cog import builder as cog
    from grafana_foundation_sdk.cog import variants
    from grafana_foundation_sdk.models import common, dashboard
    from grafana_foundation_sdk.models import prometheus as prometheus_models

PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="prometheus")
KPIS = common.DataSourceRef(type_val="yesoreyeram-infinity-datasource", uid="campaignwatch-kpis")
INCIDENTS = common.DataSourceRef(type_val="yesoreyeram-infinity-datasource", uid="campaignwatch-incidents")

#: Columns of Grafana's grid.
FULL_WIDTH = 24
GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus. `legend` names the series by their labels, as in `{{topic}}`."""

    expr: str
    legend: str = "__auto"
    #: The newest value only, as a table or a single number needs it.
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a field of the JSON rows, its heading, its kind (string, number, timestamp) and Grafana's unit."""

    field: str
    heading: str
    kind: str = "number"
    unit: str | None = None
    decimals: int | None = None
    width: int | None = None


@dataclass(slots=True)
class JsonRows(variants.Dataquery, cog.Builder[variants.Dataquery]):
    """Rows of a page of the HTTP interface, fetched and parsed by the Infinity data source's backend (alerting needs it so)."""

    datasource: common.DataSourceRef
    path: str
    parameters: Mapping[str, str]
    root: str
    columns: Sequence[Column]

    def build(self) -> variants.Dataquery:
        """Itself: it is query and builder in one."""
        return self

    def to_json(self) -> dict[str, object]:
        """The query as the plugin stores it."""
        return {
            "refId": "A",
            "datasource": self.datasource,
            "type": "json",
            "source": "url",
            "parser": "backend",
            "format": "table",
            "url": self.path,
            "url_options": {"method": "GET", "data": "", "params": [{"key": k, "value": v} for k, v in self.parameters.items()]},
            "root_selector": self.root,
            "columns": [{"selector": column.field, "text": column.heading, "type": column.kind} for column in self.columns],
            "filters": [],
        }


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(PROMETHEUS)
    target.editor_mode(prometheus_models.QueryEditorMode.CODE)
    if query.instant:
        return target.instant().format(prometheus_models.PromQueryFormat.TABLE)
    return target.range()


def _steps(*steps: tuple[float | None, str]) -> builders.ThresholdsConfig:
    return (
        builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=color) for value, color in steps])
    )


def series(
    title: str, *queries: Query, description: str, unit: str, span: int = 8, stacked: bool = False, decimals: int | None = None
) -> timeseries.Panel:
    """Lines over time, with the last and the highest value in the legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .fill_opacity(20 if stacked else 5)
        .legend(
            common_builders.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if decimals is not None:
        panel.decimals(decimals)
    for i, query in enumerate(queries):
        panel.with_target(_target(query, chr(ord("A") + i)))
    return panel


def number(
    title: str,
    expr: str,
    *,
    description: str,
    unit: str,
    warn: float | None = None,
    bad: float | None = None,
    bad_below: float | None = None,
    decimals: int | None = None,
) -> stat.Panel:
    """One number with its recent course; yellow from `warn` and red from `bad`, or red below `bad_below`."""
    steps: list[tuple[float | None, str]] = [(None, GREEN)]
    if bad_below is not None:
        steps = [(None, RED), (bad_below, GREEN)]
    steps += [(warn, YELLOW)] if warn is not None else []
    steps += [(bad, RED)] if bad is not None else []
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .span(4)
        .height(4)
        .thresholds(_steps(*steps))
        .no_value("no data")
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .with_target(_target(Query(expr), "A"))
    )
    return panel if decimals is None else panel.decimals(decimals)


def _table(title: str, description: str, datasource: common.DataSourceRef, span: int, height: int) -> table.Panel:
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(datasource)
        .span(span)
        .height(height)
        .cell_height(common.TableCellHeight.SM)
        .show_header(True)
    )


def json_table(
    title: str,
    rows: JsonRows,
    *,
    description: str,
    span: int = FULL_WIDTH,
    height: int = 10,
    empty: str = "nothing",
) -> table.Panel:
    """A table of JSON rows, in the order in which the page gives them."""
    panel = _table(title, description, rows.datasource, span, height).no_value(empty).with_target(rows)
    for column in rows.columns:
        properties: list[dashboard.DynamicConfigValue] = []
        wanted: list[tuple[str, Any]] = [("unit", column.unit), ("decimals", column.decimals), ("custom.width", column.width)]
        for name, value in wanted:
            if value is not None:
                properties.append(dashboard.DynamicConfigValue(id_val=name, value=value))
        if properties:
            panel.override_by_name(column.heading, properties)
    return panel


def label_table(title: str, expr: str, *, description: str, hidden: Sequence[str], span: int, height: int = 8) -> table.Panel:
    """The labels of the series that `expr` gives now, one row each."""
    panel = _table(title, description, PROMETHEUS, span, height).no_value("none").with_target(_target(Query(expr, instant=True), "A"))
    return panel.with_transformation(
        dashboard.DataTransformerConfig(id_val="organize", options={"excludeByName": dict.fromkeys(hidden, True)})
    )


def choice(name: str, label: str, values: Sequence[str], description: str) -> builders.CustomVariable:
    """A variable with fixed values; the first is chosen."""
    first = dashboard.VariableOption(text=values[0], value=values[0], selected=True)
    options = [first, *(dashboard.VariableOption(text=value, value=value, selected=False) for value in values[1:])]
    return builders.CustomVariable(name).label(label).description(description).values(",".join(values)).current(first).options(options)


def label_choice(name: str, label: str, query: str, description: str) -> builders.QueryVariable:
    """A variable whose values are the values of a label, as in `label_values(metric, label)`."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(PROMETHEUS)
        .query({"query": query, "refId": name})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
    )
