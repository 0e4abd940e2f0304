"""What waits for a sink: nothing that notifies is left out, told late or told out of order, however often a replica is killed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts.incidents.change import ChangeKind, Severity
from alerts.notify.backlog import Backlog
from alerts.notify.outbox import Entry
from tests.unit.test_slack_blocks import a_change

OPENED, UPDATED, RESOLVED, ACKNOWLEDGED = ChangeKind.OPENED, ChangeKind.UPDATED, ChangeKind.RESOLVED, ChangeKind.ACKNOWLEDGED
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL
START = "0-0"

Told = tuple[str, ChangeKind, Severity]


def entries(*told: Told | tuple[str, ChangeKind], first: int = 1) -> list[Entry]:
    """Entries with the ids and seqs `first`, `first` + 1, ...; of (incident, kind) the severity is a warning."""
    found = []
    for seq, (incident, kind, *severity) in enumerate(told, start=first):
        change = a_change(kind, incident_id=incident, seq=seq, severity=severity[0] if severity else WARNING)
        found.append(Entry(f"{seq}-0", change))
    return found


def kinds(backlog: Backlog) -> list[tuple[str, str]]:
    return [(e.change.incident_id, e.change.change.value) for e in backlog.entries() if e.change is not None]


def take(backlog: Backlog) -> tuple[str, str]:
    """Deliver one change. Returns the incident, and the id where the cursor stands then."""
    entry = backlog.head
    assert entry is not None
    assert entry.change is not None
    cursor = backlog.cursor_after(entry)
    backlog.done(entry)
    return entry.change.incident_id, cursor


def test_a_burst_still_tells_what_opened_and_what_resolved() -> None:
    backlog = Backlog(3, START)
    folded = backlog.extend(entries(("a", OPENED), ("b", UPDATED), ("a", UPDATED), ("b", UPDATED), ("a", RESOLVED)))
    assert folded == 2
    assert kinds(backlog) == [("a", "opened"), ("b", "updated"), ("a", "resolved")]


def test_few_changes_are_all_told_in_their_order() -> None:
    backlog = Backlog(3, START)
    assert backlog.extend(entries(("b", UPDATED), ("a", OPENED), ("b", UPDATED))) == 0
    assert [take(backlog) for _ in range(3)] == [("b", "1-0"), ("a", "2-0"), ("b", "3-0")]
    assert backlog.head is None


def test_of_many_changes_those_that_notify_go_first_and_the_cursor_waits_for_the_oldest() -> None:
    backlog = Backlog(1, START)
    backlog.extend(entries(("a", OPENED), ("b", OPENED), ("c", OPENED)))
    assert [take(backlog)[0] for _ in range(3)] == ["a", "b", "c"]
    news: list[Told] = [("a", UPDATED, WARNING), ("unknown", UPDATED, WARNING), ("b", UPDATED, CRITICAL), ("c", ACKNOWLEDGED, WARNING)]
    backlog.extend(entries(*news, ("d", OPENED, WARNING), first=4))
    assert [take(backlog) for _ in range(5)] == [("b", "3-0"), ("c", "3-0"), ("d", "3-0"), ("unknown", "3-0"), ("a", "8-0")]


def test_a_rise_that_a_newer_update_repeats_still_goes_first() -> None:
    backlog = Backlog(1, START)
    backlog.extend(entries(("a", OPENED), ("b", OPENED)))
    take(backlog), take(backlog)
    backlog.extend(entries(("b", UPDATED, CRITICAL), ("a", UPDATED, WARNING), ("b", UPDATED, CRITICAL), first=3))
    assert [take(backlog) for _ in range(2)] == [("b", "3-0"), ("a", "5-0")]


def test_newer_figures_of_all_incidents_take_turns_when_there_is_no_time_for_all() -> None:
    names = [f"i-{i:02}" for i in range(60)]
    backlog = Backlog(5, START)
    backlog.extend(entries(*((name, OPENED) for name in names)))
    for _ in names:
        take(backlog)
    for several in range(1, 5):
        backlog.extend(entries(*((name, UPDATED) for name in names), first=1 + 60 * several))
        assert [take(backlog)[0] for _ in range(15)] == names[15 * (several - 1) : 15 * several]


_SEVERITY = st.sampled_from(Severity)
_TOLD = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(ChangeKind), _SEVERITY), max_size=60)


@given(told=_TOLD, cuts=st.lists(st.integers(0, 60), max_size=3), fold_above=st.none() | st.integers(1, 20))
def test_folding_keeps_order_milestones_and_the_newest(told: list[Told], cuts: list[int], fold_above: int | None) -> None:
    all_entries, backlog, at = entries(*told), Backlog(fold_above, START), 0
    for cut in [*sorted(cuts), len(all_entries)]:
        backlog.extend(all_entries[at:cut])
        at = max(at, cut)
    left = backlog.entries()
    assert left == [e for e in all_entries if e in left]
    gone = [e for e in all_entries if e not in left]
    assert all(e.change is not None and e.change.change is UPDATED for e in gone)
    for incident in {i for i, _, _ in told}:
        newest = [e for e in all_entries if e.change is not None and e.change.incident_id == incident][-1]
        assert newest in left
    if fold_above is None or len(all_entries) <= fold_above:
        assert not gone


@given(
    told=_TOLD,
    steps=st.lists(
        st.integers(1, 20) | st.sampled_from(["deliver", "deliver", "deliver", "killed", "killed while delivering"]),
        min_size=20,
        max_size=80,
    ),
    fold_above=st.integers(1, 3),
)
def test_whatever_is_read_delivered_and_killed_nothing_that_notifies_is_lost_or_told_out_of_order(
    told: list[Told], steps: list[int | str], fold_above: int
) -> None:
    """The receiver knows the newest change of each incident that it was told, as Slack's memory does, and takes no older one."""
    outbox, cursor, backlog = entries(*told), START, Backlog(fold_above, START)
    shown: dict[str, int] = {}
    heard: set[int] = set()

    def place(entry_id: str) -> int:
        return int(entry_id.removesuffix("-0"))

    for step in [*steps, len(outbox), *["deliver"] * len(outbox)]:
        entry = backlog.head
        if isinstance(step, int):
            backlog.extend(outbox[place(backlog.read_to) :][:step])
        elif entry is not None and entry.change is not None and step != "killed":
            incident, seq = entry.change.incident_id, entry.change.seq
            if seq > shown.get(incident, 0):
                shown[incident] = seq
                heard.add(seq)
            if step == "deliver":
                moved = backlog.cursor_after(entry)
                assert place(moved) >= place(cursor)
                cursor = moved
                backlog.done(entry)
        if step in ("killed", "killed while delivering"):
            backlog = Backlog(fold_above, cursor)
    assert cursor == (outbox[-1].id if outbox else START)
    newest = {incident: seq for seq, (incident, _, _) in enumerate(told, start=1)}
    must = {seq for seq, (_, kind, _) in enumerate(told, start=1) if kind is not UPDATED}
    assert heard >= must | set(newest.values())
    assert shown == newest
