"""Dashboards, data sources, scrape targets and rules name only what the product really offers."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import build
from streams.api.pages import SHAPES, pages
from streams.config import Settings
from streams.kpis.formulas import COLUMNS

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
PROMETHEUS = GRAFANA / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
DASHBOARDS = {path.name: json.loads(path.read_text("utf-8")) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}

_METRIC = re.compile(r"campaignwatch[a-z0-9_:]*")


def panels() -> Iterator[dict[str, Any]]:
    for dashboard in DASHBOARDS.values():
        yield from dashboard["panels"]


def targets() -> Iterator[dict[str, Any]]:
    for panel in panels():
        yield from panel.get("targets", ())


def rules() -> Iterator[dict[str, Any]]:
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            yield from group["rules"]


def declared_metrics() -> set[str]:
    """Every name that the product's code spells out, with the endings that Prometheus knows it by."""
    names: set[str] = set()
    for package in ("streams", "alerts"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"campaignwatch_[a-z0-9_]+", node.value):
                    names.add(node.value)
    return {name + ending for name in names for ending in ("", "_total", "_bucket", "_sum", "_count")}


def test_the_committed_json_is_what_the_code_makes() -> None:
    assert build.stale() == [], "run: python -m grafana.build"


def test_every_panel_has_an_id_of_its_own_and_says_what_it_shows() -> None:
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in dashboard["panels"]:
            assert panel["type"] == "row" or panel["description"].endswith(".")


def test_panels_lie_inside_the_grid_without_overlap() -> None:
    for dashboard in DASHBOARDS.values():
        cells: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not covered & cells, panel["title"]
            cells |= covered


def test_every_metric_that_is_asked_for_exists() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = declared_metrics() | recorded
    asked = [target["expr"] for target in targets() if "expr" in target] + [rule["expr"] for rule in rules()]
    asked += [v["definition"] for dashboard in DASHBOARDS.values() for v in dashboard["templating"]["list"] if v["type"] == "query"]
    for expression in asked:
        names = {name for name in _METRIC.findall(re.sub(r'"[^"]*"', '""', expression)) if name != "campaignwatch"}
        assert names <= known, f"{sorted(names - known)} in {expression}"


def test_every_recorded_series_is_used() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = " ".join([target.get("expr", "") for target in targets()] + [rule["expr"] for rule in rules()])
    assert {name for name in recorded if name in asked} == recorded


def test_tables_ask_for_pages_parameters_and_columns_that_exist() -> None:
    by_path = {page.path: page for page in pages(Settings())}
    asked = [target for target in targets() if target["datasource"]["type"] == "yesoreyeram-infinity-datasource"]
    assert {target["url"] for target in asked} == {"/api/kpis", "/api/incidents"}
    for target in asked:
        page = by_path[target["url"]]
        parameters = {parameter.name: parameter for parameter in page.parameters}
        for parameter in target["url_options"]["params"]:
            # Grafana puts a variable's value in; its values are tried below.
            if "$" not in parameter["value"]:
                parameters[parameter["key"]].read(parameter["value"])
        assert page.shape is not None
        assert target["root_selector"] in SHAPES[page.shape]["properties"]
        assert target["parser"] == "backend"
        fields = {column["selector"] for column in target["columns"]}
        if target["url"] == "/api/kpis":
            assert fields <= {"campaign_id", *COLUMNS}
        else:
            incident = SHAPES["Incident"]["properties"]
            # A change carries these too; see alerts/incidents/change.py.
            assert {field.partition(".")[0] for field in fields} <= {*incident, "name", "opened_at"}


def test_windows_to_choose_from_can_be_asked_for() -> None:
    window = next(p for page in pages(Settings()) if page.path == "/api/kpis" for p in page.parameters if p.name == "window")
    variable = next(v for v in DASHBOARDS["overview.json"]["templating"]["list"] if v["name"] == "window")
    lengths = [window.read(option["value"]) for option in variable["options"]]
    assert lengths == sorted(lengths)
    assert len(lengths) == 4


def test_dashboards_use_provisioned_data_sources() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/campaignwatch.yml").read_text("utf-8"))["datasources"]
    provisioned = {source["uid"]: source for source in sources}
    for target in targets():
        assert provisioned[target["datasource"]["uid"]]["type"] == target["datasource"]["type"]
    for source in sources:
        assert source["editable"] is False
        assert source["jsonData"].get("allowedHosts", [source["url"]]) == [source["url"]]


def test_tables_are_read_with_the_token_that_grafana_is_given() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/campaignwatch.yml").read_text("utf-8"))["datasources"]
    ours = [source for source in sources if source["type"] != "prometheus"]
    assert len(ours) == 2
    for source in ours:
        assert source["jsonData"]["auth_method"] == "bearerToken"
        variable = source["secureJsonData"]["bearerToken"].removeprefix("$")
        for service in ("streams", "alerts"):
            assert services["grafana"]["environment"][variable] == services[service]["environment"]["CAMPAIGNWATCH_HTTP__TOKEN"]


def test_addresses_are_those_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    ports = {
        "streams": services["streams"]["environment"]["CAMPAIGNWATCH_STREAMS__HTTP_PORT"],
        "alerts": services["alerts"]["environment"]["CAMPAIGNWATCH_ALERTS__HTTP_PORT"],
    }
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    found = {sd["names"][0]: sd["port"] for config in scraped for sd in config.get("dns_sd_configs", ())}
    assert found == ports
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/campaignwatch.yml").read_text("utf-8"))["datasources"]
    urls = {source["url"] for source in sources if source["type"] != "prometheus"}
    assert urls == {f"http://{name}:{port}" for name, port in ports.items()}
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/campaignwatch.yml").read_text("utf-8"))["providers"][0]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]


def test_every_alert_has_a_test_a_severity_and_a_place_in_the_operations_guide() -> None:
    tested: dict[str, bool] = {}
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for alert in case.get("alert_rule_test", ()):
                tested[alert["alertname"]] = tested.get(alert["alertname"], False) or bool(alert.get("exp_alerts"))
    guide = (ROOT / "docs/operations.md").read_text("utf-8")
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in guide.splitlines() if line.startswith("#")
    }
    for rule in rules():
        if "alert" not in rule:
            continue
        assert tested.get(rule["alert"]), f"{rule['alert']}: no test in which it fires"
        assert rule["labels"]["severity"] in ("warning", "critical")
        document, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert document == "docs/operations.md"
        assert anchor in anchors, f"{rule['alert']}: {anchor}"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml")], id="config"),
        pytest.param(["check", "rules", *map(str, RULE_FILES)], id="rules"),
        pytest.param(["test", "rules", *map(str, sorted((PROMETHEUS / "tests").glob("*.yml")))], id="rule tests"),
    ],
)
def test_promtool_agrees(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
