"""Why a record was refused: the stable codes of the quarantine topic."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reason codes. Producers may rely on them; new ones may be added, none changes its meaning."""

    TOO_LARGE = "too_large"
    """The value is longer than 64 KiB."""
    EMPTY = "empty"
    """No value at all (a tombstone) on a topic of events."""
    MALFORMED = "malformed"
    """Not one UTF-8 JSON object."""
    MISSING_FIELD = "missing_field"
    """A required field is absent, null or empty."""
    INVALID_FIELD = "invalid_field"
    """A field has the wrong type, form or range."""
    UNKNOWN_CURRENCY = "unknown_currency"
    """The currency has no rate in money.rates."""
    WRONG_KEY = "wrong_key"
    """spend and campaigns must be keyed by their campaign_id."""
    IN_FUTURE = "in_future"
    """occurred_at is more than 5 minutes after the record's time."""
    UNPROCESSABLE = "unprocessable"
    """A valid record that the program itself failed on: a defect of Campaignwatch, not of the producer."""


class Refusal(Exception):
    """One record cannot be used: stable `reason`, and `detail` in words for the producer's developer."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail

    def to_keep(self) -> Refusal:
        """Itself without what led to it: a traceback holds the frames that it passed, and so a whole batch that holds it in turn."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self
