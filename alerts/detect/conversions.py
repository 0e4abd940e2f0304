"""The conversions judge: too few conversions for the clicks that are there."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import numpy as np

from alerts.detect.baseline import Baseline, baseline
from alerts.detect.deviation import Deviation, Forecast, find, in_words
from alerts.detect.history import HOUR, SECOND, Floats, History
from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.detect.traffic import running
from alerts.incidents.change import Expected
from alerts.rules.model import Rule

#: Conversions follow their clicks with a delay, so fewer clicks at any of these trailing windows (seconds) explain fewer conversions.
CLICK_WINDOWS = (60, 300, 900)
#: Fewer usual clicks than this in a window say nothing about the traffic.
ENOUGH_CLICKS = 30


class ConversionsJudge:
    """A drop of conversions that neither their own level nor the clicks explain: the sign of broken tracking.

    Expected is the lesser of what the row usually converts and of what its recent clicks convert at the row's usual rate; the test is
    that of the traffic judge.
    """

    def judge(self, rule: Rule, history: History) -> Judgement:
        """One verdict per row whose conversions are missing."""
        own = baseline(history, "conversions", rule.baseline)
        clicks = baseline(history, "clicks", rule.baseline)
        traffic = _relative_traffic(history, clicks)

        def forecast(seconds: int) -> Forecast:
            # Clicks fewer than usual lower the expectation, more of them (bots convert nothing) do not raise it.
            share = np.minimum(traffic, _share(history, clicks, seconds))
            return Forecast(own.level * seconds * share, own.dispersion_of(seconds) + clicks.doubt)

        found = find(rule, Direction.DROP, own.ready & clicks.ready, partial(history.trailing, "conversions"), forecast)
        verdicts = [
            _verdict(rule, history, row, found)
            for row in np.flatnonzero(found.window).tolist()
            if running(history.campaign_of(history.rows[row]), history.end)
        ]
        return Judgement(history.rows, verdicts, found.calm, int(found.judged.sum()))


def _share(history: History, clicks: Baseline, seconds: int) -> Floats:
    """Clicks of a trailing window against their level, at most 1; 1 where the level is too low to tell."""
    usual = clicks.level * seconds
    share: Floats = np.minimum(history.trailing("clicks", seconds) / np.maximum(usual, 1e-9), 1.0)
    return np.where(usual >= ENOUGH_CLICKS, share, 1.0)


def _relative_traffic(history: History, clicks: Baseline) -> Floats:
    """The same for the leanest of CLICK_WINDOWS."""
    share: Floats = np.minimum.reduce([_share(history, clicks, seconds) for seconds in CLICK_WINDOWS])
    return share


def _verdict(rule: Rule, history: History, row: int, found: Deviation) -> Verdict:
    key = history.rows[row]
    window, count, mean = int(found.window[row]), int(found.observed[row]), float(found.mean[row])
    expected = Expected(low=round(float(found.low[row]), 1), mid=round(mean, 1), high=round(float(found.high[row]), 1))
    clicks = int(history.trailing("clicks", window)[row])
    explanation = (
        f"{history.title_of(key)}: {count:,} conversions in {in_words(window)}, where about {mean:,.0f} are normal for its"
        f" {clicks:,} clicks."
        " The clicks are there, so people most likely still buy and it is the reporting that broke."
        " Look first at the conversion tag or postback (last release, consent banner) and at the orders in the shop."
    )
    return Verdict(
        row=key,
        direction=Direction.DROP,
        severity=rule.severity,
        measure="conversions",
        observed=float(count),
        expected=expected,
        start=history.end - window * SECOND,
        end=history.end,
        explanation=explanation,
        money_at_stake=_missing_revenue(history, row, mean - count),
    )


def _missing_revenue(history: History, row: int, missing: float) -> Decimal | None:
    """Revenue of the missing conversions at the last hour's mean value, in the reporting currency; None where it is not known."""
    if "revenue" not in history.minutes.measures:
        return None
    since = history.end - HOUR
    revenue, conversions = int(history.since("revenue", since)[row]), int(history.since("conversions", since)[row])
    if not revenue or not conversions:
        return None
    return (Decimal(revenue) / conversions * Decimal(f"{missing:.1f}")).scaleb(-6).quantize(Decimal("0.01"))
