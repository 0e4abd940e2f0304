"""Take what bench.scale measured into streams/planning/measured.json, and print the examples in docs/scaling.md anew.

    python -m bench.scale && python -m bench.coefficients

What bench.scale does not measure (bytes of Redis beside the content, bytes of an id in a worker, ...) stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from bench import scaling_document
from bench.results import RESULTS
from streams.errors import UserError

MEASURED = Path(__file__).parents[1] / "streams" / "planning" / "measured.json"


def section(results: Path = RESULTS) -> dict[str, Any]:
    """What bench.scale saved last. Raises UserError when there is nothing."""
    known: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    if "scale" not in known:
        raise UserError(f"{results} has no section `scale`: run python -m bench.scale first")
    found: dict[str, Any] = known["scale"]
    return found


def taken_over(scale: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The coefficients `known` with those that the section `scale` knows better.

    More campaigns are not taken to be cheaper: where noise says so, the dearer of two neighbours counts for both.
    """
    alone = sorted((point for point in scale["points"] if point["workers"] == 1), key=lambda point: point["campaigns"])
    at = [point["campaigns"] / scale["partitions"] for point in alone]

    def points(values: list[float], dearer: Callable[[float, float], float]) -> list[list[float]]:
        return [[campaigns, value] for campaigns, value in zip(at, accumulate(values, dearer), strict=True)]

    machine = scale["machine"]
    return {
        **known,
        "date": scale["measured_at"][:10],
        "machine": f"{machine['cores']} cores that also carried {scale['servers']}, Python {machine['python'].rpartition('.')[0]}",
        "worker_events_per_second": points([point["events_per_second"]["median"] for point in alone], min),
        "redis_cpu_us_per_event": points([point["cpu_us_per_event"]["redis"]["median"] for point in alone], max),
        "redis_bytes_per_event": points([point["redis_bytes_per_event"]["median"] for point in alone], max),
        "workers_measured": max(point["workers"] for point in scale["points"]),
    }


def main() -> None:
    known = json.loads(MEASURED.read_text(encoding="utf-8"))
    try:
        scale = section()
    except UserError as error:
        raise SystemExit(f"bench.coefficients: {error}") from None
    MEASURED.write_text(json.dumps(taken_over(scale, known), indent=2) + "\n", encoding="utf-8")
    scaling_document.main()


if __name__ == "__main__":
    main()
