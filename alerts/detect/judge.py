"""The interface of a judge, beside the code that calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from alerts.detect.history import Bools, History
from alerts.incidents.change import Expected, Severity
from alerts.rules.model import Rule
from streams.tables.windows import RowKey


class Direction(StrEnum):
    """Which way a row left its normal."""

    SPIKE = "spike"
    DROP = "drop"
    BURN = "burn"
    EXHAUSTED = "exhausted"
    BREAK = "break"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row is abnormal, and why. Money is in units of the reporting currency, times are epoch ms."""

    row: RowKey
    direction: Direction
    severity: Severity
    measure: str
    observed: float
    expected: Expected
    start: int
    end: int
    explanation: str
    money_at_stake: Decimal | None = None
    #: Whether it goes on by itself, so that people are reminded; False for what happened, which is told again when it happened again.
    lasting: bool = True


@dataclass(slots=True)
class Judgement:
    """What a judge says about a whole cube.

    `verdicts` has at most one entry per row. `calm[i]` says that `rows[i]` is surely back at normal: an open incident may
    end. A row that is neither in `verdicts` nor calm is undecided, and its incident stays as it is.
    """

    rows: Sequence[RowKey]
    verdicts: list[Verdict]
    calm: Bools
    #: Rows that a verdict was possible for: enough history and volume.
    judged: int
    #: Whether a row without any event in the history counts as calm.
    absent_is_calm: bool = False


class Judge(Protocol):
    """Decides about all rows of a cube at once. Pure: equal arguments give equal judgements."""

    def judge(self, rule: Rule, history: History) -> Judgement:
        """Judge every row at `history.end`. Never raises for odd data: what cannot be judged is left undecided."""
        ...
