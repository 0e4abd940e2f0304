"""Reading the tables into the histories that judges look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from alerts.app.rolling import Rolling, Rows
from alerts.detect.history import FINE, HOUR, MINUTE, QUARTER, History, Mask
from alerts.pacing.days import month_bounds
from alerts.pacing.plan import Plan, plan_of
from alerts.pacing.planned import Planned
from alerts.rules.model import JudgeName, Rule
from streams.config import ConfigError, Settings
from streams.tables.reader import TableReader
from streams.tables.windows import Registered, RowKey

Ints = NDArray[np.int64]

#: Seconds of each strip: fine ones reach back to the minute 15 min ago, quarters over the longest day there is.
FINE_STEPS, MINUTE_STEPS, QUARTER_STEPS, HOUR_STEPS = 96, 120, 104, 168
#: What is read again with each new step, for events that came late.
FINE_AGAIN, MINUTE_AGAIN, QUARTER_AGAIN, HOUR_AGAIN = 3 * MINUTE, 5 * MINUTE, HOUR, HOUR
#: Steps that are read again at each tick, round and round, for what comes later still, as spend reports do: a whole strip within a
#: quarter of an hour, the hours within half of one.
ROUND, HOURS_ROUND = 2, 1
#: Panes that must be kept: step and span in ms, and what for.
NEEDED_PANES = ((FINE, 20 * MINUTE, "windows of seconds"), (MINUTE, 130 * MINUTE, "baselines"), (QUARTER, 27 * HOUR, "budgets"))
#: Steps that are read at a time.
_READ_STEPS = 24
#: How often the registry is read again.
REGISTRY_EVERY = timedelta(seconds=30)
#: Judged time between two clean-ups of rows that fell silent.
CLEAN_EVERY = HOUR


def check_ladder(settings: Settings) -> None:
    """Raise ConfigError when the panes that are kept cannot serve the judges."""
    for step, span, what in NEEDED_PANES:
        if not any(step % (pane.size * 1000) == 0 and pane.keep * 1000 >= span for pane in settings.streams.ladder):
            raise ConfigError(
                f"streams.ladder: the alerts process needs panes of {step // 1000} s or a part of it, kept for {span // 1000} s or longer"
                f" ({what}); add one"
            )


class Registry:
    """The campaigns and their plans, read anew from time to time."""

    def __init__(self, tables: TableReader, settings: Settings) -> None:
        self._tables = tables
        self._money = settings.money
        self._read_at: datetime | None = None
        self.campaigns: dict[str, Registered] = {}
        self.plans: dict[str, Plan] = {}

    async def refresh(self, at: datetime) -> None:
        """Read the registry when it is due at `at`; it is when the clock was set back."""
        if self._read_at is not None and timedelta(0) <= at - self._read_at < REGISTRY_EVERY:
            return
        found = await self._tables.campaigns()
        plans = {}
        for name, campaign in found.items():
            known = self.plans.get(name)
            if known is not None and self.campaigns.get(name) == campaign:
                plans[name] = known
            else:
                plan = plan_of(campaign, self._money.reporting_currency, self._money.rates)
                if plan is not None:
                    plans[name] = plan
        self.campaigns = found
        if plans != self.plans:
            self.plans = plans
        self._read_at = at


class CubeFeed:
    """The trailing tables of one cube, as its rules need them."""

    def __init__(self, tables: TableReader, settings: Settings, cube: str, rules: Sequence[Rule]) -> None:
        self._tables = tables
        self._settings = settings
        self.cube = cube
        self._measures = tuple(sorted(frozenset().union(*(rule.needs for rule in rules))))
        self._budgets = any(rule.judge in (JudgeName.BUDGET_BURN, JudgeName.BUDGET_EXHAUSTED) for rule in rules)
        self._start_anew()

    def _start_anew(self) -> None:
        self._rows = Rows()
        self._fine = Rolling(self._rows, FINE, FINE_STEPS, self._measures)
        self._minutes = Rolling(self._rows, MINUTE, MINUTE_STEPS, self._measures)
        self._quarters = Rolling(self._rows, QUARTER, QUARTER_STEPS, ("spend",))
        self._hours = Rolling(self._rows, HOUR, HOUR_STEPS, ("spend",))
        self._planned: tuple[Mapping[str, Plan], int, int, Planned] | None = None
        self._month_base: dict[int, tuple[int, dict[RowKey, int]]] = {}
        self._cleaned = 0

    async def history(self, now: int, registry: Registry, masks: Mapping[RowKey, Sequence[Mask]]) -> History:
        """The history at the judged time `now` (epoch ms, a multiple of 10 s). Valid until the next call.

        Raises redis errors when Redis is away; what was read before stays good.
        """
        if self._fine.end is not None and now < self._fine.end:
            # The tables were put back to an older state.
            self._start_anew()
        minute, quarter, hour = (now // step * step for step in (MINUTE, QUARTER, HOUR))
        await self._read(self._fine, now, FINE_AGAIN, ROUND)
        await self._read(self._minutes, minute, MINUTE_AGAIN, ROUND)
        if self._budgets:
            await self._read(self._quarters, quarter, QUARTER_AGAIN, ROUND)
            if any(plan.by_profile for plan in registry.plans.values()):
                await self._read(self._hours, hour, HOUR_AGAIN, HOURS_ROUND)
        if now - self._cleaned >= CLEAN_EVERY:
            self._forget_silent_rows()
            self._cleaned = now
        history = History(
            cube=self.cube,
            dimensions=self._settings.all_cubes[self.cube],
            rows=list(self._rows.keys),
            end=now,
            fine=self._fine.strip(90 + (now - minute) // FINE),
            minutes=self._minutes.strip(),
            quarters=self._quarters.strip() if self._quarters.end is not None else None,
            hours=self._hours.strip() if self._hours.end is not None else None,
            masks=masks,
            campaigns=registry.campaigns,
            plans=registry.plans,
            currency=self._settings.money.reporting_currency,
            planned=self._with_plans(registry.plans) if self._budgets else None,
        )
        if self._budgets:
            history.month_spend = await self._month_spend(history, quarter)
        return history

    async def _read(self, rolling: Rolling, end: int, again: int, steps: int) -> None:
        """Bring a strip up to `end` (epoch ms) with the last `again` ms before it, and read the next `steps` of the round again."""
        oldest = end - rolling.steps * rolling.step
        if rolling.end is None:
            await self._merge(rolling, oldest, end)
            return
        if rolling.end != end or rolling.step == FINE:
            await self._merge(rolling, max(oldest, min(rolling.end, end) - again), end)
        start = max(oldest, rolling.read_again)
        until = min(end, start + steps * rolling.step)
        await self._merge(rolling, start, until)
        rolling.read_again = until if until < end else oldest

    async def _merge(self, rolling: Rolling, start: int, end: int) -> None:
        while start < end:
            # Hours of the past of all rows at once would take much memory, and keep the lease from being renewed.
            until = min(end, start + _READ_STEPS * rolling.step)
            rolling.merge(await self._tables.series(self.cube, start, until, rolling.step, measures=rolling.measures))
            start = until

    def _with_plans(self, plans: Mapping[str, Plan]) -> Planned:
        """The plans by row; made again when plans or rows are others than before."""
        known, rows, forgot = self._planned, len(self._rows), self._rows.forgot
        if known is None or known[0] is not plans or known[1:3] != (rows, forgot):
            known = self._planned = plans, rows, forgot, Planned.of(self._rows.keys, plans)
        return known[3]

    def _forget_silent_rows(self) -> None:
        kept = self._minutes.active() | self._fine.active() | self._quarters.active() | self._hours.active()
        if kept.all():
            return
        for rolling in (self._fine, self._minutes, self._quarters, self._hours):
            rolling.keep(kept)
        self._rows.keep(kept)

    async def _month_spend(self, history: History, quarter: int) -> Ints | None:
        """Spend per row since the start of the campaign's month; None when no campaign has a monthly budget.

        What the month cost up to some quarter of an hour is read anew every hour and added to.
        """
        starts: dict[int, list[int]] = {}
        for zone, places in history.with_plans().by_month.items():
            starts.setdefault(month_bounds(history.end - 1, zone)[0], []).extend(places)
        if not starts:
            return None
        result = np.zeros(len(history.rows), np.int64)
        self._month_base = {start: base for start, base in self._month_base.items() if start in starts}
        for start, places in starts.items():
            known = self._month_base.get(start)
            if known is None or quarter - known[0] >= HOUR:
                spent: dict[RowKey, int] = {}
                if quarter > start:
                    window = await self._tables.window(self.cube, start, quarter, measures=("spend",), estimates=False)
                    spent = dict(zip(window.rows, window.measures["spend"].tolist(), strict=True))
                known = (max(start, quarter), spent)
                self._month_base[start] = known
            since, base = known
            rows = history.rows
            result[places] = [base.get(rows[place], 0) for place in places]
            result[places] += history.spent_since(since)[places]
        return result


def feeds_for(tables: TableReader, settings: Settings, rules: Sequence[Rule]) -> dict[str, CubeFeed]:
    """A feed per cube that some rule judges."""
    by_cube: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.judge is JudgeName.PIPELINE:
            continue
        by_cube.setdefault(rule.cube, []).append(rule)
    return {cube: CubeFeed(tables, settings, cube, own) for cube, own in by_cube.items()}
