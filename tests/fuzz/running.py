"""A run: so many payloads over the targets, what became of them, and of the first that failed the smallest that fails alike."""

from __future__ import annotations

import base64
import json
import math
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.defects import shrunk, sign_of
from tests.fuzz.targets import Target
from tests.unit.hostile_events import Sent


@dataclass
class Tally:
    """What a target came to."""

    payloads: int = 0
    seconds: float = 0.0
    #: Longest that one payload took, averaged over its batch.
    slowest_ms: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Failure:
    """Payloads of a target that the program fails on, as few and as small as could be found."""

    target: str
    sign: str
    trace: str
    payloads: Sequence[Sent]

    def content(self) -> dict[str, Any]:
        """As JSON, for a file that `read_failure` takes."""
        return {
            "target": self.target,
            "sign": self.sign,
            "payloads": [
                {"value": _base64(each.value), "key": _base64(each.key), "timestamp": each.timestamp, "text": repr((each.value or b"")[:500])}
                for each in self.payloads
            ],
            "trace": self.trace,
        }  # fmt: skip


class Failed(Exception):
    """The run has found a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sign)
        self.failure = failure


def run(targets: Mapping[Target, float], payloads: int, seed: int, tell: Callable[[dict[str, Tally]], None]) -> dict[str, Tally]:
    """Give `payloads` to the targets by their weights, in turns; `tell` is called every few seconds. Raises Failed."""
    tallies = {target.name: Tally() for target in targets}
    whole, told = sum(targets.values()), time.monotonic()
    wanted = {target: math.ceil(payloads * weight / whole) for target, weight in targets.items()}
    chances = {target: random.Random(f"{seed} {target.name}") for target in targets}
    while any(tallies[target.name].payloads < number for target, number in wanted.items()):
        for target, number in wanted.items():
            tally = tallies[target.name]
            made = [target.make(chances[target]) for _ in range(min(target.batch, number - tally.payloads))]
            if made:
                _judge(target, made, tally)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            tell(tallies)
    return tallies


def _judge(target: Target, made: Sequence[Sent], tally: Tally) -> None:
    start = time.perf_counter()
    try:
        tally.outcomes.update(target.judge(made))
    except Exception as error:
        raise Failed(smallest(target, made, error)) from error
    took = time.perf_counter() - start
    tally.payloads += len(made)
    tally.seconds += took
    tally.slowest_ms = max(tally.slowest_ms, took * 1_000 / len(made))


def smallest(target: Target, made: Sequence[Sent], error: Exception) -> Failure:
    """The failure of a batch: one payload alone if one is enough, without the bytes that do not matter."""
    sign = sign_of(error)

    def fails(payloads: Sequence[Sent]) -> bool:
        try:
            target.judge(payloads)
        except Exception as again:
            return sign_of(again) == sign
        return False

    alone = next((sent for sent in made if fails([sent])), None)
    if alone is None:
        return Failure(target.name, sign, "".join(traceback.format_exception(error)), made)
    key, timestamp = alone.key, alone.timestamp
    if alone.value is not None:
        alone = Sent(shrunk(alone.value, lambda value: fails([Sent(value, key, timestamp)])), key, timestamp)
    trace = ""
    try:
        target.judge([alone])
    except Exception as again:
        trace = "".join(traceback.format_exception(again))
    return Failure(target.name, sign, trace, [alone])


def read_failure(path: Path) -> tuple[str, list[Sent]]:
    """Target and payloads of a saved failure."""
    content = json.loads(path.read_text(encoding="utf-8"))
    payloads = [Sent(_bytes(each["value"]), _bytes(each["key"]), each["timestamp"]) for each in content["payloads"]]
    return content["target"], payloads


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
