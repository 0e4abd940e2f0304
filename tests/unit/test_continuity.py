"""Log and tables normally continue each other; each way in which they can come apart is told by its name, with what to go on with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.continuity import Break, Committer, Finding, LogState, Note, examine, noted
from streams.tables.meta import Meta

#: Tables of the offsets 100 to 899 of a topic.
TABLES = Meta(start_offset=100, applied_offset=899, read=800, applied=790, duplicate=10, committed=880, topic_id="one", record_time=5)
LOG = LogState(earliest=0, end=2_000, committed=890, topic_id="one")


def kinds(found: list[Finding]) -> list[tuple[Break, int]]:
    return [(finding.kind, finding.records) for finding in found]


def test_a_log_that_goes_on_is_nothing_to_speak_of() -> None:
    assert examine(TABLES, LOG) == (replace(TABLES, committed=890), [])
    assert examine(TABLES, replace(LOG, earliest=900, end=900)) == (replace(TABLES, committed=890), [])
    assert examine(TABLES, replace(LOG, committed=-1)) == (TABLES, []), "offsets of a group that nobody is in are forgotten"
    fresh = Meta(start_offset=7)
    assert examine(fresh, replace(LOG, earliest=7, committed=-1)) == (replace(fresh, topic_id="one"), [])


def test_a_worker_that_was_killed_before_it_committed_is_nothing_to_speak_of() -> None:
    assert examine(TABLES, replace(LOG, committed=881), believed=900)[1] == []
    assert examine(replace(TABLES, committed=-1), replace(LOG, committed=-1))[1] == []


def test_a_zombie_that_believes_in_less_than_was_applied_since_is_nothing_to_speak_of() -> None:
    assert examine(TABLES, LOG, believed=500)[1] == []


def test_retention_that_went_past_loses_records_and_says_how_many() -> None:
    after, found = examine(TABLES, replace(LOG, earliest=950))
    assert kinds(found) == [(Break.RECORDS_GONE, 50)]
    assert after.next_offset == 950
    assert (after.read, after.start_offset) == (800, 100), "what was counted stays"
    assert examine(after, replace(LOG, earliest=950))[1] == [], "it is said once"


def test_a_topic_made_again_is_read_from_its_start_and_its_ledger_begins_anew() -> None:
    after, found = examine(TABLES, LogState(3, 5_000, topic_id="two"))
    assert kinds(found) == [(Break.TOPIC_RECREATED, 800)]
    assert (after.start_offset, after.applied_offset, after.next_offset, after.topic_id) == (3, -1, 3, "two")
    assert (after.read, after.applied, after.duplicate, after.too_late, after.quarantined) == (0, 0, 0, 0, 0)
    assert after.record_time == 5, "what is late is still judged by the newest time seen"
    assert examine(after, LogState(3, 5_000, topic_id="two"))[1] == []


@pytest.mark.parametrize("end", [0, 99, 100, 500, 899])
def test_a_log_that_ends_before_what_was_read_of_it_is_read_on_from_its_end(end: int) -> None:
    after, found = examine(TABLES, replace(LOG, end=end), sent_back=True)
    assert kinds(found) == [(Break.LOG_TRUNCATED, 900 - end)]
    assert after.next_offset == end


def test_an_end_that_is_too_low_is_believed_only_when_the_broker_had_nothing_there() -> None:
    assert examine(TABLES, replace(LOG, end=880))[1] == []


def test_tables_that_fell_back_are_told_by_what_this_owner_had_reached() -> None:
    after, found = examine(TABLES, LOG, believed=1_000)
    assert kinds(found) == [(Break.TABLES_FELL_BACK, 100)]
    assert after.next_offset == 900


def test_tables_that_fell_back_are_told_by_what_was_committed_too() -> None:
    assert kinds(examine(TABLES, replace(LOG, committed=950))[1]) == [(Break.TABLES_FELL_BACK, 50)]
    emptied = Meta(start_offset=0)
    after, found = examine(emptied, LOG)
    assert kinds(found) == [(Break.TABLES_FELL_BACK, 890)]
    assert examine(after, LOG)[1] == [], "while it is read again, another owner does not say it once more"


def test_tables_built_anew_are_behind_what_was_committed_without_having_fallen_back() -> None:
    assert examine(replace(TABLES, committed=-1), replace(LOG, committed=950))[1] == []


def test_offsets_of_the_group_that_somebody_set_back_change_nothing_and_are_told() -> None:
    after, found = examine(TABLES, replace(LOG, committed=0))
    assert kinds(found) == [(Break.GROUP_OFFSETS_MOVED, 0)]
    assert after.next_offset == TABLES.next_offset
    assert examine(after, replace(LOG, committed=0))[1] == []


def test_offsets_of_the_group_that_somebody_set_forth_change_nothing_and_are_no_tables_that_fell_back() -> None:
    marked, _ = examine(TABLES, replace(LOG, committed_by=Committer.WORKER))
    moved = replace(LOG, committed=2_000, committed_by=Committer.UNKNOWN)
    after, found = examine(marked, moved)
    assert kinds(found) == [(Break.GROUP_OFFSETS_MOVED, 0)]
    assert after.next_offset == TABLES.next_offset
    assert examine(after, moved)[1] == []
    assert kinds(examine(marked, replace(moved, committed_by=Committer.WORKER))[1]) == [(Break.TABLES_FELL_BACK, 1_100)]


def test_a_broker_that_keeps_no_marks_is_believed_without() -> None:
    assert kinds(examine(TABLES, replace(LOG, committed=2_000))[1]) == [(Break.TABLES_FELL_BACK, 1_100)]


def test_what_workers_of_another_namespace_committed_says_nothing_of_these_tables() -> None:
    assert examine(Meta(start_offset=0), replace(LOG, committed_by=Committer.OTHER))[1] == []


def test_a_partition_that_is_there_again_holds_the_watermark_again() -> None:
    assert examine(replace(TABLES, retired=1), LOG)[0].retired == 0


@given(
    start=st.integers(0, 50),
    applied=st.integers(-1, 100),
    earliest=st.integers(0, 120),
    end=st.integers(0, 200),
    committed=st.integers(-1, 200),
    stored=st.integers(-1, 200),
    believed=st.integers(-1, 200),
    sent_back=st.booleans(),
    same=st.booleans(),
    by=st.sampled_from(Committer),
)
def test_whatever_was_found_is_not_found_again_and_reading_goes_on_within_the_log(
    start: int,
    applied: int,
    earliest: int,
    end: int,
    committed: int,
    stored: int,
    believed: int,
    sent_back: bool,
    same: bool,
    by: Committer,
) -> None:
    end = max(earliest, end)
    read = max(0, applied - start + 1)
    meta = Meta(start_offset=start, applied_offset=applied, read=read, applied=read, committed=stored, topic_id="one")
    log = LogState(earliest, end, committed, by, "one" if same else "two")
    after, found = examine(meta, log, believed=believed, sent_back=sent_back)
    assert after.next_offset >= earliest
    assert not sent_back or after.next_offset <= end
    assert after.next_offset == meta.next_offset or found
    again, left = examine(after, log, believed=after.next_offset, sent_back=sent_back)
    assert (again, left) == (after, [])


def test_notes_add_up_by_kind() -> None:
    first = noted([Finding(Break.RECORDS_GONE, 5, "five"), Finding(Break.TABLES_FELL_BACK, 1, "one")], {}, 10)
    second = noted([Finding(Break.RECORDS_GONE, 7, "seven"), Finding(Break.RECORDS_GONE, 1, "one more")], first, 20)
    assert set(second) == {"records_gone"}
    assert Note.unpack(second["records_gone"]) == Note(times=3, records=13, at=20, detail="one more")
    assert Note.unpack(first["tables_fell_back"]) == Note(times=1, records=1, at=10, detail="one")
