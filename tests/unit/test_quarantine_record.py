"""A refused record comes back from the quarantine topic byte for byte, with its reason and its coordinates."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.refusal import Reason, Refusal
from streams.quarantine import Coordinates, QuarantineError, decode_quarantined, quarantine_record
from streams.quarantine.record import LARGEST_RECORD

NOW = datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    topic: str = "marketing.clicks"
    partition: int = 3
    offset: int = 1207
    timestamp: int | None = 1_763_800_000_123
    key: bytes | None = b"c-1"
    value: bytes | None = b'{"event_id": 1}'


def test_the_record_is_the_documented_json() -> None:
    value = quarantine_record(Record(), Refusal(Reason.INVALID_FIELD, "event_id: must be a string, got 1"), NOW).value
    assert json.loads(value) == {
        "reason": "invalid_field",
        "detail": "event_id: must be a string, got 1",
        "topic": "marketing.clicks",
        "partition": 3,
        "offset": 1207,
        "timestamp": 1_763_800_000_123,
        "key": base64.b64encode(b"c-1").decode(),
        "value": base64.b64encode(b'{"event_id": 1}').decode(),
        "quarantined_at": "2026-11-22T12:00:00.123Z",
    }


@pytest.mark.parametrize(("key", "value"), [(b"c-1", b"v" * 3_200_000), (b"k" * 3_000_000, b"v"), (b"k" * 4_000_000, None)])
def test_what_is_too_long_for_the_topic_is_described_there(key: bytes, value: bytes | None) -> None:
    """A record that came compressed: were it refused by the topic, its partition would wait for ever."""
    written = quarantine_record(Record(key=key, value=value), Refusal(Reason.TOO_LARGE, "3,200,000 bytes"), NOW)
    back = decode_quarantined(written.value)
    content = key + (value or b"")
    assert (written.key, back.key, back.value, back.left_out_bytes) == (None, None, None, len(content))
    assert back.detail.startswith("3,200,000 bytes; ") and hashlib.sha256(content).hexdigest() in back.detail
    assert back.coordinates == Coordinates("marketing.clicks", 3, 1207)


def test_the_largest_that_is_kept_fits_into_the_topic() -> None:
    largest = 3_000_000
    written = quarantine_record(Record(value=b"v" * largest), Refusal(Reason.TOO_LARGE, "x" * 1_000), NOW)
    assert len(decode_quarantined(written.value).value or b"") == largest
    assert len(written.value) + len(written.key or b"") < LARGEST_RECORD - 10_000


@given(
    key=st.none() | st.binary(max_size=200),
    value=st.none() | st.binary(max_size=2000),
    # Details quote what producers sent, so even text that UTF-8 cannot carry must not stop the quarantine.
    detail=st.text(st.characters(), max_size=200) | st.just("bad \ud800 text"),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.none() | st.integers(-1, 2**62),
)
def test_bytes_and_coordinates_survive(key: bytes | None, value: bytes | None, detail: str, offset: int, timestamp: int | None) -> None:
    record = Record(key=key, value=value, offset=offset, timestamp=timestamp)
    back = decode_quarantined(quarantine_record(record, Refusal(Reason.MALFORMED, detail), NOW).value)
    assert (back.key, back.value, back.timestamp) == (key, value, timestamp)
    assert back.coordinates == Coordinates("marketing.clicks", 3, offset)
    assert back.reason == "malformed"
    assert back.detail == detail.encode("utf-8", "backslashreplace").decode()
    assert back.quarantined_at == NOW


def test_the_time_is_written_in_utc() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert (
        json.loads(quarantine_record(Record(), Refusal(Reason.EMPTY, "no value"), local).value)["quarantined_at"]
        == "2026-11-22T12:00:00.123Z"
    )


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[]", b'{"reason": "x"}'])
def test_other_bytes_are_no_quarantine_record(value: bytes) -> None:
    with pytest.raises(QuarantineError, match="not a quarantine record"):
        decode_quarantined(value)


@given(st.builds(Coordinates, st.from_regex(r"\A[a-z0-9._-]{1,20}\Z"), st.integers(0, 999), st.integers(0, 2**63 - 1)))
def test_coordinates_are_read_as_they_are_written(coordinates: Coordinates) -> None:
    assert Coordinates.parse(str(coordinates)) == coordinates


@pytest.mark.parametrize(
    "text", ["", "marketing.clicks", "marketing.clicks:1", "marketing.clicks:a:2", ":1:2", "t:1:-2", "t:1:2:3", "t:1:²"]
)
def test_other_text_is_no_coordinates(text: str) -> None:
    with pytest.raises(QuarantineError, match="TOPIC:PARTITION:OFFSET"):
        Coordinates.parse(text)
