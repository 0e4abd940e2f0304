"""Bring streams/planning/measured.json up to date with what bench/results.json measured: `python -m bench.coefficients`.

The example in docs/scaling.md is printed anew with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench import scaling_document
from bench.results import sections
from bench.servers import PARTITIONS
from streams import planning

_KEPT = Path(planning.__file__).with_name("measured.json")
#: Coefficient -> what the section `scale` calls it.
_NAMES = {
    "worker_events_per_second": "events_per_second",
    "redis_cpu_us_per_event": "redis_cpu_us_per_event",
    "redis_bytes_per_event": "redis_bytes_per_event",
}


def brought_up_to_date(coefficients: Mapping[str, Any], scale: Mapping[str, Any]) -> dict[str, Any]:
    """The coefficients with those that `scale` measured, by campaigns in a partition.

    More campaigns are not taken to be cheaper: where noise says so, the dearer of two neighbours counts for both.
    """
    machine = scale["machine"]
    result = dict(coefficients)
    for name, measured in _NAMES.items():
        dearer = accumulate((each[measured] for each in scale["campaigns"]), min if measured == "events_per_second" else max)
        result[name] = [[each["campaigns"] / PARTITIONS, value] for each, value in zip(scale["campaigns"], dearer, strict=True)]
    result["date"] = scale["measured_at"][:10]
    result["machine"] = (
        f"{machine['processor']}, {machine['cores']} cores that also carried Apache Kafka and Redis, Python {machine['python']}"
    )
    return result


def main() -> None:
    """Read, replace, write."""
    scale = sections()["scale"]
    found = brought_up_to_date(json.loads(_KEPT.read_text(encoding="utf-8")), scale)
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    _KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    scaling_document.main()


if __name__ == "__main__":
    main()
