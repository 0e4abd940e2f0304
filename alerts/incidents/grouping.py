"""Many rows in trouble at once are one trouble: a broken feed is told once, not once for every campaign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Expected, Severity
from alerts.incidents.inhibition import EVERYTHING
from alerts.rules.model import PIPELINE, Rule
from streams.tables.windows import RowKey

#: Rows that a message names.
NAMED = 5


def group_of(rule: Rule, judgement: Judgement, already_open: bool, alone: Collection[RowKey] = ()) -> Verdict | None:
    """One verdict that speaks for all, when so many rows left normal the same way at once that they must have one cause.

    That is `group_at` rows or more which are also `group_share` of those judged, without rows that were `alone` in leaving it; half of
    both keeps an open group open, and for that all rows count. A budget that is spent is its campaign's own trouble. The verdict's
    `observed` is the number of rows, its expected none.
    """
    if rule.cube in ("total", PIPELINE):
        return None
    together = [v for v in judgement.verdicts if v.direction is not Direction.EXHAUSTED and (already_open or v.row not in alone)]
    if not together:
        return None
    direction, number = Counter(verdict.direction for verdict in together).most_common(1)[0]
    ease = 0.5 if already_open else 1.0
    if number < rule.group_at * ease or number < rule.group_share * judgement.judged * ease:
        return None
    same = [v for v in together if v.direction is direction]
    names = [", ".join(str(part) for part in v.row) for v in same[:NAMED]]
    more = f" and {number - NAMED} more" if number > NAMED else ""
    stakes = [v.money_at_stake for v in same if v.money_at_stake is not None]
    return Verdict(
        row=EVERYTHING,
        direction=direction,
        severity=max((v.severity for v in same), key=lambda s: s is Severity.CRITICAL),
        measure=same[0].measure,
        observed=float(number),
        expected=Expected(low=0.0, mid=0.0, high=float(rule.group_at)),
        start=min(v.start for v in same),
        end=same[0].end,
        explanation=(
            f"{number} of {judgement.judged} rows of the cube {rule.cube} left normal at once ({_word(direction)}):"
            f" {', '.join(names)}{more}."
            " So many at a time have one cause. Look first at what they share: the producers, Kafka, the consent banner, the ad account."
        ),
        money_at_stake=sum(stakes[1:], stakes[0]) if stakes else None,
    )


def _word(direction: Direction) -> str:
    return {
        Direction.SPIKE: "spike",
        Direction.DROP: "drop",
        Direction.BURN: "spending too fast",
        Direction.EXHAUSTED: "budget spent",
        Direction.BREAK: "break",
    }[direction]
