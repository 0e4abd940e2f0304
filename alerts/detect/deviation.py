"""The test that both count judges use: is a row's count in any trailing window too far from what its baseline predicts?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from alerts.detect.history import Bools, Floats, Ints
from alerts.detect.judge import Direction
from alerts.detect.tail import lower_tail, upper_tail
from alerts.rules.model import Rule

#: How far back to normal, on the logarithmic scale from 1 to the rule's factor, a row must be to count as calm.
CALM = 0.6
#: A long window counts only when its newest part, this share of it but at least LEAST_PART seconds, deviates too.
PART = 4
LEAST_PART = 20


@dataclass(slots=True)
class Forecast:
    """What a window should hold, per row."""

    mean: Floats
    #: Squared coefficient of variation beyond Poisson's, the forecast's own uncertainty included.
    dispersion: Floats


@dataclass(slots=True)
class Deviation:
    """What was found, per row: `window` is 0 where nothing is abnormal."""

    window: Ints
    observed: Ints
    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    #: Enough expected volume in at least one window.
    judged: Bools
    calm: Bools


def find(rule: Rule, direction: Direction, ready: Bools, observed: Callable[[int], Ints], forecast: Callable[[int], Forecast]) -> Deviation:
    """Judge all rows in all of the rule's windows; the smallest window that is abnormal wins.

    Abnormal means three things together: enough expected volume; an effect of the rule's factor or more in the window, and nearly so
    in its newest part and in the smallest window with enough volume, so that what is over is not told; and a predictive tail
    probability below `p_value` even if the level had drifted by `drift` towards the observation. The last makes a slow change of
    level, such as a daily rhythm, no surprise.
    """
    rows = len(ready)
    up = direction is Direction.SPIKE
    factor = rule.spike if up else rule.drop
    found = Deviation(
        window=np.zeros(rows, np.int64),
        observed=np.zeros(rows, np.int64),
        mean=np.zeros(rows),
        low=np.zeros(rows),
        high=np.zeros(rows),
        p=np.ones(rows),
        judged=np.zeros(rows, np.bool_),
        calm=np.zeros(rows, np.bool_),
    )
    for window in rule.windows:
        count = observed(window)
        expected = forecast(window)
        enough = ready & (expected.mean >= rule.min_expected)
        # The smallest window with enough volume says soonest that it is over.
        first = enough & ~found.judged
        found.calm[first] = ~_beyond(count, expected.mean, factor**CALM, up)[first]
        found.judged |= enough
        candidates = enough & ~found.calm & (found.window == 0) & _beyond(count, expected.mean, factor, up)
        part = max(LEAST_PART, window // PART // 10 * 10)
        if part < window and candidates.any():
            candidates &= _beyond(observed(part), forecast(part).mean, factor**CALM, up)
        where = np.flatnonzero(candidates)
        if not len(where):
            continue
        seen, mean, dispersion = count[where].astype(np.float64), expected.mean[where], expected.dispersion[where]
        p = upper_tail(seen, mean * rule.drift, dispersion) if up else lower_tail(seen, mean / rule.drift, dispersion)
        sure = p < rule.p_value
        hit = where[sure]
        spread = 2.0 * np.sqrt(mean + dispersion * mean**2)[sure]
        found.window[hit] = window
        found.observed[hit] = count[hit]
        found.mean[hit] = mean[sure]
        found.low[hit] = np.maximum(0.0, mean[sure] / rule.drift - spread)
        found.high[hit] = mean[sure] * rule.drift + spread
        found.p[hit] = p[sure]
    found.calm &= found.window == 0
    return found


def _beyond(count: Ints, mean: Floats, factor: float, up: bool) -> Bools:
    result: Bools = count >= factor * mean if up else count <= factor * mean
    return result


def in_words(seconds: int) -> str:
    """A window as a message says it: `30 s`, `5 min`."""
    return f"{seconds} s" if seconds < 120 or seconds % 60 else f"{seconds // 60} min"


def worst(deviations: Sequence[Deviation], row: int) -> int:
    """Which of the deviations of a row is the least probable; -1 when none is abnormal."""
    hits = [(float(d.p[row]), i) for i, d in enumerate(deviations) if d.window[row]]
    return min(hits)[1] if hits else -1
