"""What waits for its flush: taken from the beginning, by number and by bytes, and never lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.records import Record, Records, Waiting

CONTENTS = st.none() | st.binary(max_size=30)
PARTS = st.lists(st.lists(st.tuples(CONTENTS, CONTENTS), max_size=6), max_size=6)
LIMITS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 120)), max_size=12)


def size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")


@given(PARTS, LIMITS)
def test_it_gives_what_a_list_would_give_within_both_limits(
    contents: list[list[tuple[bytes | None, bytes | None]]], limits: list[tuple[int, int]]
) -> None:
    waiting, model = Waiting(), list[tuple[Record, float]]()
    for number, part in enumerate(contents):
        records = [Record(len(model) + i, 0, key, value) for i, (key, value) in enumerate(part)]
        waiting.append(Records.of(records), float(number))
        model += [(record, float(number)) for record in records]
    for count, nbytes in limits:
        assert (len(waiting), waiting.nbytes) == (len(model), sum(size(record) for record, _ in model))
        if model:
            assert waiting.since == model[0][1]
        taken = list(waiting.first(count, nbytes))
        fits = 0
        while fits < min(count, len(model)) and sum(size(record) for record, _ in model[: fits + 1]) <= nbytes:
            fits += 1
        # Empty ones may follow what fills the limit exactly, and a part is not looked into for them.
        assert taken == [record for record, _ in model[: len(taken)]]
        assert len(taken) <= max(fits, 1)
        assert sum(map(size, taken)) == sum(size(record) for record, _ in model[: max(fits, min(1, len(model)))])
        waiting.drop(len(taken))
        del model[: len(taken)]
    waiting.clear()
    assert (len(waiting), waiting.nbytes) == (0, 0)
