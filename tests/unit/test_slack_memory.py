"""What is remembered of an incident's Slack message, and which memory wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from alerts.notify.slack_memory import Told

START = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


def test_what_redis_could_not_be_told_in_time_replaces_only_what_says_less() -> None:
    early, late = START.isoformat(), (START + timedelta(minutes=1)).isoformat()
    kept = Told(seq=2, ts="1", reply="worse", at=early)
    assert kept.goes_beyond(Told())
    assert kept.goes_beyond(Told(seq=1, ts="1", at=early))
    assert kept.goes_beyond(Told(seq=1)), "written by a version that did not note when"
    # Another replica was first, or posted a message of its own.
    assert not kept.goes_beyond(Told(seq=3, ts="1", at=late))
    assert not kept.goes_beyond(Told(seq=2, ts="1", reply="", at=early))
    assert not replace(kept, reply="").goes_beyond(Told(seq=2, ts="2", reply="worse", at=early))
    # The reply was posted, and only that could not be stored.
    assert replace(kept, reply="").goes_beyond(kept)
    # Redis fell back, and the incident went on from an older change.
    assert replace(kept, at=late).goes_beyond(Told(seq=3, ts="1", at=early))
