"""The scanner: whatever JSON, nearly JSON or bytes a record is, it agrees with the arbiter; and a loop's own hashes are the library's."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.config import Topic
from streams.ingest.texts import Texts
from streams.ingest.users import user_hasher
from tests.unit.agreement import agree, decoded
from tests.unit.hostile_events import Sent, valid

PLAIN = json.dumps(valid(Topic.ENGAGEMENTS)).encode()
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
FRAGMENTS = [
    b'"',
    b"\\",
    b"\\u",
    b"\\ud83d",
    b"\\ude00",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"-",
    b"0",
    b"1e5",
    b".",
    b"\x00",
    b"\x7f",
    b"\xff",
]
FRAGMENTS += [b"\xc3\xa9", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xc0\xaf", b"\xe2\x82", b"null", b"true", b" ", b"\n", b"\xef\xbb\xbf"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.booleans(), st.sampled_from((None, 2)))
def test_unknown_fields_of_any_shape_change_nothing(value: Any, as_ascii: bool, indent: int | None) -> None:
    event = {"more": value} | valid(Topic.ENGAGEMENTS) | {"most": [value]}
    record = Sent(json.dumps(event, ensure_ascii=as_ascii, indent=indent).encode("utf-8", "replace"))
    rows, _ = agree(Topic.ENGAGEMENTS, [record])
    assert list(rows) == [0]


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(PLAIN)), st.integers(0, 3), st.lists(st.sampled_from(FRAGMENTS), max_size=3))
def test_records_with_bytes_put_in_or_cut_out_are_judged_as_the_arbiter_does(at: int, cut: int, put_in: list[bytes]) -> None:
    agree(Topic.ENGAGEMENTS, [Sent(PLAIN[:at] + b"".join(put_in) + PLAIN[at + cut :]), Sent(PLAIN)])


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(["a", "\\n", "\\/", "\\u00e9", "é", "😀", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\uD83D\\uDE00"]), max_size=4
    )
)
def test_texts_are_as_long_as_their_code_points_however_they_are_written(parts: list[str]) -> None:
    for name, longest in (("term", 256), ("keyword", 256), ("event_id", 128)):
        for pad in (0, longest - len(parts), longest - len(parts) + 1, longest):
            text = "".join(parts) + "x" * max(0, pad)
            record = PLAIN[:-1] + f', "{name}": "{text}"}}'.encode()
            agree(Topic.ENGAGEMENTS, [Sent(record)])


def test_plain_json_of_other_writers_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slashes escaped as by PHP, characters as by Python, nested extras: none needs the arbiter, which takes fifty times as long."""
    fields = valid(Topic.ENGAGEMENTS) | {
        "keyword": "Schuhe für 😀",
        "landing_page": "https://x.example/ä",
        "extra": {"a": [1, {"b": None}]},
    }
    php = json.dumps(fields).replace("/", "\\/")
    records = [
        Sent(text.encode()) for text in (json.dumps(fields), json.dumps(fields, ensure_ascii=False), json.dumps(fields, indent=1), php)
    ]

    def asked(*_: Any) -> None:
        raise AssertionError("the arbiter was asked")

    monkeypatch.setattr("streams.ingest.decode.parse", asked)
    columns, refused = decoded(Topic.ENGAGEMENTS, records)
    assert not refused
    assert columns.dimensions["keyword"].strings() == ["Schuhe für 😀"] * 4
    assert columns.dimensions["keyword"].values == [None, "Schuhe für 😀"], "two ways to write a text are one text"


@given(st.lists(st.text(min_size=1, max_size=256), min_size=1, max_size=20), st.text(st.characters(exclude_categories=["Cs"])))
def test_hashes_of_users_are_those_of_the_library(users: list[str], key: str) -> None:
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    whole = [hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=4, key=secret).digest() for user in users]
    assert user_hasher(key)(Texts.of(users)).tobytes() == b"".join(whole)
