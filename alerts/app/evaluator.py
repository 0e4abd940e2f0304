"""One tick: read the tables, let the judges speak, let the incidents live, write what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from alerts.app.feed import Registry, feeds_for
from alerts.app.metrics import AlertsMetrics
from alerts.detect.breaks import DIMENSIONS, judge_breaks, noted_in
from alerts.detect.conversions import ConversionsJudge
from alerts.detect.history import FINE, History
from alerts.detect.judge import Judge, Judgement
from alerts.detect.traffic import TrafficJudge
from alerts.incidents.incident import Incident, Subject
from alerts.incidents.life import Moment, Step, advance, newest_of
from alerts.incidents.masks import masks_of
from alerts.incidents.store import FellBack, IncidentStore
from alerts.pacing.burn import BudgetBurnJudge
from alerts.pacing.exhaustion import BudgetExhaustedJudge
from alerts.rules.model import PIPELINE, JudgeName, Rule
from streams.config import Settings
from streams.tables.reader import TableReader
from streams.tables.windows import PartitionLedger

logger = logging.getLogger(__name__)

#: Every judge of tables by the name that rules use.
JUDGES: dict[JudgeName, Judge] = {
    JudgeName.TRAFFIC: TrafficJudge(),
    JudgeName.CONVERSIONS: ConversionsJudge(),
    JudgeName.BUDGET_BURN: BudgetBurnJudge(),
    JudgeName.BUDGET_EXHAUSTED: BudgetExhaustedJudge(),
}

#: How often incidents that are kept long enough are looked for.
FORGET_EVERY = timedelta(hours=1)


class Evaluator:
    """One term of a leader: holds what is known and evaluates it tick by tick."""

    def __init__(
        self, settings: Settings, rules: Sequence[Rule], tables: TableReader, store: IncidentStore, metrics: AlertsMetrics, token: str
    ) -> None:
        self._settings = settings
        self._rules = [rule for rule in rules if rule.judge is not JudgeName.PIPELINE]
        self._pipeline_rules = [rule for rule in rules if rule.judge is JudgeName.PIPELINE]
        self._by_name = {rule.name: rule for rule in rules}
        self._tables = tables
        self._metrics = metrics
        self._token = token
        self._store = store
        self._registry = Registry(tables, settings)
        self._feeds = feeds_for(tables, settings, rules)
        self._known: dict[Subject, Incident] | None = None
        self._all: dict[str, Incident] = {}
        self._judged: int | None = None
        self._forgot_at: datetime | None = None

    async def tick(self, at: datetime) -> str:
        """Evaluate everything at the watermark; `at` is the present time. Returns the outcome (metrics.OUTCOMES).

        Raises LeaseLost when another replica leads, FellBack when Redis fell back twice meanwhile, redis errors when it is away; the next
        tick starts from what is stored then.
        """
        try:
            try:
                return await self._tick(at)
            except FellBack:
                self._known = None
                return await self._tick(at)
        except BaseException:
            # Whether the write arrived is not known: Redis is.
            self._known = None
            raise

    async def _tick(self, at: datetime) -> str:
        await self._refresh()
        watermark = await self._tables.watermark()
        ledger = await self._tables.ledger()
        offsets = {f"{p.topic}:{p.partition}": p.applied_offset for p in ledger}
        await self._judge_pipeline(ledger, offsets, at)
        if watermark is None:
            return "no_data"
        now = watermark // FINE * FINE
        lag = at.timestamp() - now / 1000
        self._metrics.lag.set(lag)
        if lag > self._settings.alerts.max_lag:
            return "behind"
        if self._judged is not None and now == self._judged:
            return "nothing_new"
        with self._metrics.stage_seconds.labels("read").time():
            await self._registry.refresh(at)
            histories = {
                cube: await feed.history(now, self._registry, masks_of(self._all.values(), self._by_name, cube, now))
                for cube, feed in self._feeds.items()
            }
        with self._metrics.stage_seconds.labels("judge").time():
            # In a thread: the lease must be renewed and pages answered while thousands of rows are judged.
            judged = await asyncio.to_thread(_judge, self._rules, histories)
            moment = Moment(at, now, offsets, self._settings.all_cubes, self._registry.campaigns)
            step = advance(self._incidents(pipeline=False), judged, moment)
        with self._metrics.stage_seconds.labels("write").time():
            await self._write(step, at)
        self._judged = now
        for rule, judgement in judged:
            self._metrics.rows.labels(rule.name).set(judgement.judged)
        return "judged"

    async def _judge_pipeline(self, ledger: Sequence[PartitionLedger], offsets: Mapping[str, int], at: datetime) -> None:
        """On the clock, whatever the watermark says: breaks come when tables are behind."""
        now = int(at.timestamp() * 1000)
        noted = noted_in(ledger)
        judged = [(rule, judge_breaks(rule, noted, now)) for rule in self._pipeline_rules]
        moment = Moment(at, now, offsets, {PIPELINE: DIMENSIONS}, {})
        step = advance(self._incidents(pipeline=True), judged, moment)
        if step.incidents:
            await self._write(step, at)
        for rule, judgement in judged:
            self._metrics.rows.labels(rule.name).set(judgement.judged)

    def _incidents(self, *, pipeline: bool) -> dict[Subject, Incident]:
        """The newest incident of each subject of the rules about the pipeline, or of all others and of rules that are gone."""
        names = {rule.name for rule in self._pipeline_rules}
        return {subject: incident for subject, incident in (self._known or {}).items() if (incident.rule in names) is pipeline}

    async def _refresh(self) -> None:
        """Load the incidents at the start, after doubt, and when Redis holds other ones than were written."""
        if self._known is not None and await self._store.is_current():
            return
        stored = await self._store.load()
        if self._store.fell_back:
            self._metrics.fell_back.inc()
            logger.warning(
                "Redis fell back: it holds older incidents than were written (emptied, restored, or failed over to a late replica);"
                " loaded %d and judging again from there; something may be told a second time",
                len(stored),
            )
        self._all = {i.newest.incident_id: i for i in stored}
        self._known = newest_of(stored)
        self._judged = None

    async def _write(self, step: Step, at: datetime) -> None:
        forget: list[str] = []
        if self._forgot_at is None or not timedelta(0) <= at - self._forgot_at < FORGET_EVERY:
            forget = [i.newest.incident_id for i in self._store.too_old(list(self._all.values()), at)]
        if step.incidents or forget:
            await self._store.commit(self._token, step, forget)
        self._forgot_at = at if forget or self._forgot_at is None else self._forgot_at
        for incident in step.incidents.values():
            self._all[incident.newest.incident_id] = incident
        for identity in forget:
            del self._all[identity]
        self._known = newest_of(list(self._all.values()))
        for change in step.changes:
            logger.info("%s %s: %s %s", change.rule, change.change.value, change.incident_id, change.explanation)
        self._metrics.count(step.changes)
        self._metrics.show_open(self._known.values())
        self._metrics.outbox.set(await self._store.outbox_length())


def _judge(rules: Sequence[Rule], histories: dict[str, History]) -> list[tuple[Rule, Judgement]]:
    return [(rule, JUDGES[rule.judge].judge(rule, histories[rule.cube])) for rule in rules]
