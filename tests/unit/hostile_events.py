"""Hypothesis strategies for records as hostile producers send them: valid events, and mutations of them down to single bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import strategies as st

from streams.config import Topic

SHARED = ("event_id", "occurred_at", "campaign_id", "channel")
OPTIONAL = [
    "account_id",
    "platform",
    "creative_id",
    "keyword",
    "region",
    "segment",
    "user_id",
    "experiment_id",
    "variant_id",
    "ip",
    "user_agent",
    "landing_page",
    "currency",
]
OWN: dict[Topic, tuple[str, ...]] = {
    Topic.CLICKS: ("cost",),
    Topic.CONVERSIONS: ("kind", "value", "order_id", "customer_type", "clicked_at"),
    Topic.ENGAGEMENTS: ("kind", "cost", "dwell_ms", "load_ms", "term", "rating"),
    Topic.SPEND: ("platform", "period_start", "period_end", "amount", "revision"),
}


@dataclass(frozen=True)
class Sent:
    """A record as the decoder sees it."""

    value: bytes | None
    key: bytes | None = None
    timestamp: int = 1_795_000_000_000


def valid(topic: Topic) -> dict[str, object]:
    """A plain valid event."""
    event: dict[str, object] = {
        "event_id": "e-1",
        "occurred_at": "2026-11-23T03:24:33.123Z",
        "campaign_id": "c-1",
        "channel": "search",
    }
    if topic in (Topic.CONVERSIONS, Topic.ENGAGEMENTS):
        event["kind"] = "purchase" if topic is Topic.CONVERSIONS else "impression"
    if topic is Topic.SPEND:
        event |= {
            "platform": "ads",
            "period_start": "2026-11-23T00:00:00Z",
            "period_end": "2026-11-23T01:00:00Z",
            "amount": 12.5,
            "revision": 1,
        }
    return event


TIMES = [
    "2026-11-23T03:24:33Z", "2026-11-23t03:24:33.1239z", "2026-11-23 03:24:33.9999999+05:30", "2026-11-23T03:24:33.1-00:00",
    "2026-11-23T03:24:33", "2026-11-23T03:24Z", "2026-11-23T24:00:00Z", "2026-11-23T23:59:60Z", "2026-11-23T03:24:33,5Z", "20261123T032433Z",
    "2026-W48-1T03:24:33Z", "2026-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-11-31T00:00:00Z",
    "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59-00:01", "1969-12-31T23:59:59.9999Z", "2026-11-23T03:24:33.Z", "2026-11-23T03:24:33+24:00",
    "2026-11-23T03:24:33+23:59", "2026-11-23T03:24:33+05:60", "2026-11-23T03:24:33+0530", "2026-11-23T03:24:33+05", " 2026-11-23T03:24:33Z", "2026-11-23T03:24:33Z ",
    "2026-11-23T03:24:33Z\n", "2026-11-23  03:24:33Z", "2026-11-23T03:24:33 Z", "２０26-11-23T03:24:33Z", "2026-11-23T03:24:33.12٣Z", "2026-11-23_03:24:33Z", "+2026-11-23T03:24:33Z",
    "2026-11-23T03:24:33.123456789012345678901234567890Z", "2026-11-23T03:24:33.000Z", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00.0009Z", "2026-11-23T05:30:00+05:30",
    "2026-12-24T00:00:00Z", "2026-12-24T00:01:00Z", "-026-11-23T03:24:33Z", "2026-11-23T3:24:33Z", "2026-11-23T03:24:33.1234567890123456789Z", "1795404273123", "", "now",
    "2026-11-23T03:24:33.123Z\u0000", "2026-11-23T03:24:33.-12Z", "2026-11-23T03:24:33.12Z3", "2026-11-23T03:24:33Z00:00", "2026-11-23T03:24:3:Z", "2026-1\u0130-23T03:24:33Z",
]  # fmt: skip
TEXTS = ["", " ", "x", "Ünï", "İSTANBUL", "ẞ", "\U0001f600" * 64, "\U0001f600" * 65, "x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 256, "x" * 257,
         "y" * 2048, "y" * 2049, "a\nb", "a\x00b", "a\x7fb", "a\x85b", "a\u009fb", "a\u00a0b", "a\u2028b", "\ufeff", "new", "New", "returning", "refund", "rating", "_a", "a_1",
         "a" * 64, "a" * 65, "A", "9a", "a-b", "a\n", "eur", "EUR", "Usd", "USD", "gbp", "EURO", "E R", "ſSD", "ÉUR", "EUR\n", "ıdr", "XK1", "1e5", "BIG", "null", "true"]  # fmt: skip
NUMBERS = ["0", "-0", "-0.0", "-0e0", "0e99999999999999999999", "1", "-1", "5.0", "5e0", "5E-0", "0.42", "0.1234565", "0.1234575", "0.0000005", "0.0000015", "0.00000050000000000000000000001",
           "0.00000049999999999999999999999", "1e-7", "-1e-7", "-1e-400", "1e-400", "1e400", "-1e400", "1e-999999999999999999999", "1e999999999999999999999", "999999999.9999999", "1000000000",
           "1000000000.0", "1e9", "1.0e+9", "0.1e10", "1000000000.0000000000000000001", "1000000001", "999999.9999995", "1000000.0000005", "123456.7890125", "123456789.1234565", "100", "100.0",
           "1e2", "100.00000000000000001", "99.995", "99.99500000000000000001", "4.505", "4.515", "4.525", "0.005", "0.015", "0.00500000000000000000001", "86400000", "86400001",
           "9223372036854775807", "9223372036854775808", "18446744073709551616", "9" * 4400, "1795404273123", "-1795404273123", "253402300799999", "253402300800000", "-62135596800000",
           "-62135596800001", "99999999999999999999999", "1795404240000", "1795404240001", "0.30000000000000004", "33.333333333333336", "8" + "0" * 8 + ".5"]  # fmt: skip
DECIMALS = [
    *NUMBERS,
    "00012.50",
    "5.",
    ".5",
    "+5",
    " 5",
    "5 ",
    "5\n",
    "1\n2",
    "1_000",
    "1,5",
    "٣",
    "0x10",
    "NaN",
    "Infinity",
    "1.5.5",
    "",
    "0.4",
    "12.345678",
    "1234567.5",
    "0" * 300 + "7",
]
RAW = ["null", "true", "false", "[]", "{}", '[{"a":[1]}]', '""', "NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".5", "1e", "'x'", "tru", '"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ud83d\\ud83d"', '"\\ude00\\ud83d"',
       '"\\ud83dx"', '"a\\u0000b"', '"\\u0041"', '"\\x41"', '"a\tb"', '"a\x01b"', '"\\u00zz"', '"x', "[" * 400 + "]" * 400, '{"a":' * 1200 + "1" + "}" * 1200, "[" * 3000 + "]" * 3000, "[" * 3000,
       "[1,]", '{"a":1,}', '{"a"}', "//", "1 2", "\ufeff1"]  # fmt: skip
#: Bytes that are not UTF-8: a stray continuation, an overlong slash, a surrogate, beyond the last code point, cut off.
BAD_BYTES = [b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xff", b"\xf0\x9f\x98"]

_quoted = st.one_of(
    st.sampled_from(TEXTS + TIMES + DECIMALS),
    st.text(max_size=6),
    st.text(alphabet="0123456789.eE+- ", max_size=12),
    st.text(alphabet="0123456789-:.TtZz +", min_size=15, max_size=32),
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
).flatmap(lambda text: st.booleans().map(lambda ascii_only: json.dumps(text, ensure_ascii=ascii_only)))
_number = st.one_of(
    st.sampled_from(NUMBERS),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 2e6).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
_literal = st.one_of(_quoted, _number, st.sampled_from(RAW))
_plain = {
    "occurred_at": st.sampled_from(TIMES).map(json.dumps) | st.integers(-(10**14), 10**15).map(str),
    "cost": st.sampled_from(NUMBERS) | st.sampled_from(DECIMALS).map(json.dumps) | st.decimals(0, 1000, places=6).map(lambda d: json.dumps(str(d))) | _number,
    "kind": st.sampled_from(["impression", "view", "rating", "purchase", "refund", "lead", "new", "own_1"]).map(json.dumps),
    "currency": st.sampled_from(["EUR", "eur", "JPY", "USD", "usd", "KWD", "BIG", "GBP", ""]).map(json.dumps),
    "dwell_ms": st.sampled_from(NUMBERS) | st.integers(0, 86_400_000).map(str),
    "rating": st.sampled_from(NUMBERS) | st.floats(0, 100).map(repr) | st.decimals(0, 100, places=3).map(str),
}  # fmt: skip
_ALIKE = {
    "clicked_at": "occurred_at", "period_start": "occurred_at", "period_end": "occurred_at", "value": "cost", "amount": "cost", "load_ms": "dwell_ms", "revision": "dwell_ms",
}  # fmt: skip


def _literal_for(name: str) -> st.SearchStrategy[str]:
    plain = _plain.get(_ALIKE.get(name, name))
    if plain is None:
        return st.one_of(st.sampled_from(TEXTS).map(json.dumps), _literal)
    return st.one_of(plain, plain, _literal)


@st.composite
def events(draw: st.DrawFn, topic: Topic) -> Sent:
    """A record of a topic: often valid, never to be trusted."""
    pairs = [(json.dumps(name), json.dumps(value)) for name, value in valid(topic).items()]
    names = [*SHARED, *OPTIONAL, *OWN[topic]]
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(names))
        # In place of what is there, or beside it: of duplicate keys the last wins.
        if draw(st.booleans()):
            pairs = [pair for pair in pairs if pair[0] != json.dumps(name)]
        pairs.insert(draw(st.integers(0, len(pairs))), (json.dumps(name), draw(_literal_for(name))))
    if draw(st.integers(0, 5)) == 0:
        unknown = draw(
            st.sampled_from(['"x"', '"cost "', '"\\ud800"', '"a\\u0000"', '"Kind"', '"value"', '"kind"', '"amount"', '"\\u0063ost"', '""'])
        )
        pairs.insert(draw(st.integers(0, len(pairs))), (unknown, draw(_literal)))
    if draw(st.integers(0, 9)) == 0:
        pairs.pop(draw(st.integers(0, len(pairs) - 1)))
    blank = draw(st.sampled_from(["", "", "", " ", "\n\t", "\r", "\f", "\u00a0"]))
    text = "{" + ("," + blank).join(f"{name}:{blank}{value}" for name, value in pairs) + "}" + blank
    value = text.encode("utf-8", "surrogatepass")
    value = draw(_mangled(value)) if draw(st.integers(0, 7)) == 0 else value
    if draw(st.integers(0, 60)) == 0:
        value = b" " * (65_536 - len(value) + draw(st.integers(-1, 1))) + value
    key = draw(st.sampled_from([b"c-1", b"c-1", b"c-1", b"c-1", b"c-1", None, b"", b"c-2", b"\xff", "Ünï".encode()]))
    return Sent(None if draw(st.integers(0, 80)) == 0 else value, key)


def _mangled(value: bytes) -> st.SearchStrategy[bytes]:
    at = st.integers(0, len(value))
    return st.one_of(
        st.tuples(at, st.sampled_from(BAD_BYTES) | st.binary(min_size=1, max_size=3)).map(lambda t: value[: t[0]] + t[1] + value[t[0] :]),
        st.tuples(at, st.sampled_from(BAD_BYTES) | st.binary(min_size=1, max_size=1)).map(lambda t: value[: t[0]] + t[1] + value[t[0] + 1 :]),
        at.map(lambda i: value[:i]),
        at.map(lambda i: value[i:]),
        st.sampled_from([b"\xef\xbb\xbf" + value, value + b"\x00", value + value, b"[" + value + b"]", b"", b"null", b"5", b'"x"', value.decode("utf-8", "replace").encode("utf-16"), b"[" * 60_000]),
        st.binary(max_size=40),
    )  # fmt: skip
