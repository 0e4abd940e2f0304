"""The side-by-side benchmark, run as `make bench` runs it, on few events and with those that need no environment of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="the benchmarks' Apache Kafka needs Java and Maven")


@pytest.mark.slow
@NEEDS
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("job", "field"), [("throughput", "faust-light"), ("ysb", "faust")], ids=["throughput", "ysb"])
def test_every_contender_is_measured_and_right(tmp_path: Path, job: str, field: str) -> None:
    results = tmp_path / "results.json"
    words = [
        "--quick",
        "--here",
        "--only",
        job,
        "--events",
        "400000",  # a worker takes 80,000 before it first tells of any
        "--contenders",
        f"raw,campaignwatch,{field}",
        "--report",
        str(results),
    ]
    done = subprocess.run([sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=380)
    assert done.returncode == 0, done.stderr[-3_000:]
    report: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    section = report["sections"][job]
    assert report["results"] == section["results"]
    assert report["ratios"] == {name if job == "throughput" else f"ysb_{name}": ratio for name, ratio in section["ratios"].items()}
    assert report["machine"]["cores"] > 0
    found = {result["system"]: result for result in section["results"]}
    assert {name: (r["correct"], r["wrong"], r["failed"]) for name, r in found.items()} == {
        "raw": (None, [], []),
        "campaignwatch": (True, [], []),
        field: (True, [], []),
    }
    for result in found.values():
        assert result["events_per_second"] > 100
        assert result["cpu_seconds_per_million"] > 0
        assert result["spread"]["runs"] == [result["events_per_second"]]
    assert found["raw"]["events_per_second"] > found["campaignwatch"]["events_per_second"] > found[field]["events_per_second"]
    ratio = found["campaignwatch"]["events_per_second"] / found["raw"]["events_per_second"]
    assert section["ratios"]["vs_fetch_ceiling"] == pytest.approx(ratio, abs=0.001)
    assert "right" in done.stdout
    shown = subprocess.run(
        [sys.executable, "-m", "bench.report", "--results", str(results)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert "| Campaignwatch |" in shown.stdout


def test_an_unknown_contender_is_named_with_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--contenders", "spark"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "spark" in done.stderr
    assert "bytewax" in done.stderr
