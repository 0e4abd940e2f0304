"""bench/results.json: what was measured last, section by section, each with its machine and date, under what they come to as a report."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
_QUANTILES = ("p50", "p99", "p999")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**20),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def save(section: str, content: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Replace one section of the file; the others stay. What the sections come to is worked out anew."""
    known = sections(path)
    known[section] = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report(known), indent=1) + "\n", encoding="utf-8")


def sections(path: Path = RESULTS) -> dict[str, Any]:
    """What the file holds, by section; nothing where there is none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["sections"] if path.exists() else {}
    return found


def report(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The report as the contract names it, of the sections that there are, and these below it.

    Ratios of throughput stand under their own names; those of other sections begin with theirs. Latencies are in ms, by part of the highest
    rate; those of an alert end with the request to Slack.
    """
    latency = {f"{point['share']:.0%}": {q: point[q] for q in _QUANTILES} for point in measured.get("latency", {}).get("points", ())}
    if "alert_delay" in measured:
        latency["fault_to_slack"] = {name: seconds * 1_000 for name, seconds in measured["alert_delay"]["delay_s"].items()}
    return {
        "machine": machine(),
        "results": [result for job in ("throughput", "ysb") for result in measured.get(job, {}).get("results", ())],
        "ratios": {
            name if section == "throughput" else f"{section}_{name}": ratio
            for section in ("throughput", "ysb", "scale")
            for name, ratio in measured.get(section, {}).get("ratios", {}).items()
        },
        "latency_ms": latency,
        "sections": dict(sorted(measured.items())),
    }


def spread(values: Sequence[float]) -> dict[str, float | list[float]]:
    """Median, extremes and the runs themselves, in the order in which they were made."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "runs": list(values)}
