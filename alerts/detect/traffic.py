"""The traffic judge: counts against the row's own recent level, upwards and downwards."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np

from alerts.detect.baseline import Baseline, baseline
from alerts.detect.deviation import Deviation, Forecast, find, in_words, worst
from alerts.detect.history import SECOND, History
from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Expected
from alerts.rules.model import Rule
from streams.tables.windows import Registered, RowKey


class TrafficJudge:
    """Spikes and drops of counts such as impressions and clicks.

    A count is abnormal when it is out of all proportion and practically impossible under a negative-binomial forecast from the row's
    last half hour (the approach of Farrington et al., 1996, and Noufaily et al., 2013, for outbreaks in over-dispersed counts,
    without the seasonal terms: the level is recent enough). Several windows let large campaigns be judged within seconds and small
    ones within minutes.
    """

    def judge(self, rule: Rule, history: History) -> Judgement:
        """One verdict per row, for the measure and direction that is least probable."""
        deviations: list[Deviation] = []
        about: list[tuple[str, Direction]] = []
        for measure in rule.measures:
            normal = baseline(history, measure, rule.baseline)
            for direction in map(Direction, rule.directions):
                about.append((measure, direction))
                deviations.append(find(rule, direction, normal.ready, partial(history.trailing, measure), partial(_forecast, normal)))
        rows = len(history.rows)
        judged = np.logical_or.reduce([d.judged for d in deviations]) if deviations else np.zeros(rows, np.bool_)
        calm = judged & np.logical_and.reduce([d.calm | ~d.judged for d in deviations])
        abnormal = np.logical_or.reduce([d.window > 0 for d in deviations])
        verdicts = []
        for row in np.flatnonzero(abnormal).tolist():
            chosen = worst(deviations, row)
            measure, direction = about[chosen]
            if direction is Direction.DROP and not running(history.campaign_of(history.rows[row]), history.end):
                continue
            verdicts.append(_verdict(rule, history, row, measure, direction, deviations[chosen]))
        return Judgement(history.rows, verdicts, calm, int(judged.sum()))


def _forecast(normal: Baseline, seconds: int) -> Forecast:
    return Forecast(normal.level * seconds, normal.dispersion_of(seconds))


def running(campaign: Registered | None, at: int) -> bool:
    """Whether the registry has the campaign running at `at` (epoch ms), by its own days; True where it does not say."""
    if campaign is None:
        return True
    try:
        zone = ZoneInfo(str(campaign.get("time_zone") or "UTC"))
        first, last = campaign.get("starts_on"), campaign.get("ends_on")
        today = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).date()
        return (not first or date.fromisoformat(str(first)) <= today) and (not last or today <= date.fromisoformat(str(last)))
    except (KeyError, ValueError, OSError):
        return True


def _verdict(rule: Rule, history: History, row: int, measure: str, direction: Direction, found: Deviation) -> Verdict:
    key: RowKey = history.rows[row]
    window, count, mean = int(found.window[row]), int(found.observed[row]), float(found.mean[row])
    expected = Expected(low=round(float(found.low[row]), 1), mid=round(mean, 1), high=round(float(found.high[row]), 1))
    seen = f"{history.title_of(key)}: {count:,} {measure} in {in_words(window)}, where about {mean:,.0f} are normal"
    learned = (
        f"Normal is its level of the {rule.baseline.level_minutes} min before; {expected.low:,.0f} to {expected.high:,.0f} would pass."
    )
    if direction is Direction.SPIKE:
        look = (
            "Look first at where they come from (channel, region, user agents):"
            " bots, a doubled tag or producer, or a change of bids or budget."
        )
        seen += f" ({count / mean:.1f} times as many)."
    else:
        look = (
            "Look first whether the platform still delivers it (paused, rejected, out of budget)"
            " and whether its tag and producer still send."
        )
        seen += f" ({100 * count / mean:.0f}% of normal)."
    return Verdict(
        row=key,
        direction=direction,
        severity=rule.severity,
        measure=measure,
        observed=float(count),
        expected=expected,
        start=history.end - window * SECOND,
        end=history.end,
        explanation=f"{seen} {learned} {look}",
        money_at_stake=_extra_spend(rule, history, row, window) if direction is Direction.SPIKE else None,
    )


def _extra_spend(rule: Rule, history: History, row: int, window: int) -> Decimal | None:
    """Spend in the window above the level of the last hour, in the reporting currency; None where there is none above."""
    if "spend" not in history.minutes.measures:
        return None
    hour, recent = 3_600, max(rule.windows)
    before = int(history.trailing("spend", hour)[row]) - int(history.trailing("spend", recent)[row])
    usual = before * window // (hour - recent)
    extra = int(history.trailing("spend", window)[row]) - usual
    return Decimal(extra).scaleb(-6).quantize(Decimal("0.01")) if extra > usual else None
