"""A short run of `make fuzz`, and that a run would see a defect and make it small."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.config import EVENT_TOPICS, INPUT_TOPICS, Topic
from tests.fuzz.flushing import FlushTarget
from tests.fuzz.http import HttpTarget
from tests.fuzz.payloads import payload
from tests.fuzz.running import Failed, read_failure, run
from tests.fuzz.targets import TAKEN, Target, pure_targets
from tests.unit.hostile_events import Sent


@pytest.mark.parametrize("seed", [1, 2])
def test_no_payload_makes_anything_fail(seed: int) -> None:
    with ExitStack() as stack:
        targets = [stack.enter_context(target) for target in (*pure_targets(), *(FlushTarget(t) for t in EVENT_TOPICS), HttpTarget())]
        weights = {target: 0.1 if target.name.endswith(("_file", "_spend")) else 1.0 for target in targets}
        tallies = run(weights, 5_000, seed, lambda _: None)
    assert sum(tally.payloads for tally in tallies.values()) >= 5_000
    for topic in (*EVENT_TOPICS, Topic.CAMPAIGNS):
        outcomes = tallies[topic.value].outcomes
        assert outcomes[TAKEN] and outcomes["malformed"] and outcomes["invalid_field"] and outcomes["missing_field"], topic
    assert {"200", "400", "404"} <= set(tallies["http"].outcomes)


@pytest.mark.parametrize("size", [2_900_000, 3_200_000])
def test_a_payload_may_be_too_long_for_the_quarantine_too(size: int) -> None:
    sent = Sent(b'{"campaign_id":"' + b"0" * size + b'"}', b"0")
    for target in pure_targets():
        if target.name in {topic.value for topic in INPUT_TOPICS}:
            assert target.judge([sent]) == ["too_large"], target.name


class _Fragile(Target):
    """Fails at any value that holds a brace and, later, a seven."""

    name = "fragile"

    def make(self, chance: random.Random) -> Sent:
        return payload(chance, Topic.CLICKS)

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        for sent in payloads:
            if b"7" in (sent.value or b"").partition(b"{")[2]:
                raise ZeroDivisionError
        return [TAKEN] * len(payloads)


def test_a_failure_is_made_small_and_can_be_judged_again(tmp_path: Path) -> None:
    with pytest.raises(Failed) as failed:
        run({_Fragile(): 1.0}, 1_000, 1, lambda _: None)
    failure = failed.value.failure
    assert [sent.value for sent in failure.payloads] == [b"{7"]
    saved = tmp_path / "failure.json"
    saved.write_text(json.dumps(failure.content()))
    assert read_failure(saved) == ("fragile", list(failure.payloads))
    with pytest.raises(ZeroDivisionError):
        _Fragile().judge(failure.payloads)


def test_a_run_can_be_repeated_from_its_seed() -> None:
    first, second = ([payload(chance, Topic.SPEND) for _ in range(200)] for chance in (random.Random("7 spend"), random.Random("7 spend")))
    assert first == second
