"""bench/results.json: what was measured last, section by section, each with its machine and date."""

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
    """Replace one section of the file; the others stay."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[section] = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **content}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def spread(values: Sequence[float]) -> dict[str, float | list[float]]:
    """Median, extremes and the runs themselves, in the order in which they were made."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "runs": list(values)}
