"""The benchmark's report: as the contract names it, whichever sections were measured."""

from __future__ import annotations

import json
from pathlib import Path

from bench.results import save, sections


def test_the_report_is_what_its_sections_come_to(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    own = {"system": "campaignwatch", "job": "throughput", "events_per_second": 100, "correct": True}
    save("throughput", {"results": [own], "ratios": {"vs_plain_faust": 12.0}}, path)
    save("ysb", {"results": [{**own, "job": "ysb"}], "ratios": {"vs_plain_faust": 5.0}}, path)
    save("latency", {"points": [{"share": 0.5, "p50": 300.0, "p99": 700.0, "p999": 900.0, "count": 7}]}, path)
    save("scale", {"ratios": {"two_workers": 1.9}}, path)
    save("alert_delay", {"delay_s": {"p50": 10.0, "p99": 20.0, "highest": 21.0}}, path)
    save("soak", {"samples": []}, path)
    found = json.loads(path.read_text())
    assert found["machine"]["cores"] > 0
    assert [(result["system"], result["job"]) for result in found["results"]] == [("campaignwatch", "throughput"), ("campaignwatch", "ysb")]
    assert found["ratios"] == {"vs_plain_faust": 12.0, "ysb_vs_plain_faust": 5.0, "scale_two_workers": 1.9}
    assert found["latency_ms"] == {
        "50%": {"p50": 300.0, "p99": 700.0, "p999": 900.0},
        "fault_to_slack": {"p50": 10_000.0, "p99": 20_000.0, "highest": 21_000.0},
    }
    assert sections(path).keys() == {"throughput", "ysb", "latency", "scale", "alert_delay", "soak"}


def test_a_section_that_is_measured_again_replaces_its_own_only(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    save("scale", {"ratios": {"two_workers": 1.9}}, path)
    save("soak", {"samples": [1]}, path)
    save("soak", {"samples": [2]}, path)
    found = sections(path)
    assert (found["scale"]["ratios"], found["soak"]["samples"]) == ({"two_workers": 1.9}, [2])
    assert found["soak"]["machine"]["cores"] > 0 and found["soak"]["measured_at"]
