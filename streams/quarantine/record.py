"""The quarantine topic's record: what was refused, why, where it came from, and its bytes, whole unless they are too many for the topic.

The coordinates (topic, partition, offset) name the refused record; the same ones twice are a repeat, since a worker that dies between
writing to quarantine and moving its offset writes again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import msgspec

from streams.events.refusal import Refusal
from streams.ingest.records import RecordLike

#: Bytes of the largest record that the topic takes: one of the largest batch that input topics take fits in, in base64.
LARGEST_RECORD = 4 * 1_048_576
#: What is beside key and value in one, at most.
_BESIDE = 65_536


class Fetched(Protocol):
    """What is needed of a record as the Kafka client hands it over."""

    @property
    def topic(self) -> str:
        """Name of its topic."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its offset in the partition."""

    @property
    def timestamp(self) -> int | None:
        """The record's own time, epoch ms."""

    @property
    def key(self) -> bytes | None:
        """Its key as it came."""

    @property
    def value(self) -> bytes | None:
        """Its value as it came."""


@dataclass(frozen=True, slots=True)
class Located:
    """A record with its place in the log; timestamp in epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None

    @classmethod
    def at(cls, topic: str, partition: int, record: RecordLike) -> Located:
        """A record of that partition."""
        return cls(topic, partition, record.offset, record.timestamp, record.key, record.value)


class Written(NamedTuple):
    """Key and value of a record of the quarantine topic."""

    key: bytes | None
    value: bytes


class _Encoded(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON object on the topic."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: str | None
    value: str | None
    quarantined_at: str
    left_out_bytes: int = 0


class QuarantineError(ValueError):
    """Bytes that are no quarantine record; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Coordinates:
    """Where a refused record stands in the log; written `marketing.clicks:3:1207`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Coordinates:
        """Read `TOPIC:PARTITION:OFFSET`. Raises QuarantineError for anything else."""
        topic, _, rest = text.partition(":")
        partition, _, offset = rest.partition(":")
        if not topic or not (partition.isascii() and partition.isdigit()) or not (offset.isascii() and offset.isdigit()):
            raise QuarantineError(f"{text!r}: write coordinates as TOPIC:PARTITION:OFFSET, for example marketing.clicks:0:42")
        return cls(topic, int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A refused record, decoded. `key` and `value` are the original bytes; `timestamp` is the original record's time, epoch ms.

    `left_out_bytes`: how long key and value were together if they were too long to be kept, and are None; else 0.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    quarantined_at: datetime
    left_out_bytes: int = 0

    @property
    def coordinates(self) -> Coordinates:
        """Where the refused record stands."""
        return Coordinates(self.topic, self.partition, self.offset)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Encoded)


def quarantine_record(record: Fetched, refusal: Refusal, now: datetime) -> Written:
    """What to write to the quarantine topic for `record`, refused at `now` (aware).

    A record that came compressed may be longer than the topic takes. It must not hold up its partition: its length and checksum are kept
    instead, and the log has it as long as the log is kept.
    """
    key, value, detail, left_out = record.key, record.value, refusal.detail, 0
    if not _fits(len(key or b""), len(value or b"")):
        content = (key or b"") + (value or b"")
        left_out = len(content)
        detail += f"; key and value, {left_out:,} bytes, are too long to be kept here (SHA-256 {hashlib.sha256(content).hexdigest()})"
        key = value = None
    encoded = _encoder.encode(
        _Encoded(
            reason=refusal.reason.value,
            # A detail may quote the producer's own text, where a lone surrogate can hide; JSON in UTF-8 cannot carry one.
            detail=detail.encode("utf-8", "backslashreplace").decode("utf-8"),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            key=_base64(key),
            value=_base64(value),
            quarantined_at=_rfc3339(now),
            left_out_bytes=left_out,
        )
    )
    return Written(key, encoded)


def decode_quarantined(value: bytes) -> Quarantined:
    """Read a record of the quarantine topic. Raises QuarantineError when it is none."""
    try:
        encoded = _decoder.decode(value)
        return Quarantined(
            reason=encoded.reason,
            detail=encoded.detail,
            topic=encoded.topic,
            partition=encoded.partition,
            offset=encoded.offset,
            timestamp=encoded.timestamp,
            key=None if encoded.key is None else base64.b64decode(encoded.key, validate=True),
            value=None if encoded.value is None else base64.b64decode(encoded.value, validate=True),
            quarantined_at=_aware(encoded.quarantined_at),
            left_out_bytes=encoded.left_out_bytes,
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise QuarantineError(f"not a quarantine record: {error}") from error


def _fits(key: int, value: int) -> bool:
    """Whether a key and a value of so many bytes do, both in base64 and the key once more as that of the record itself."""
    return key + 4 * (key + value) / 3 <= LARGEST_RECORD - _BESIDE


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"quarantined_at {text!r} has no offset")
    return moment
