"""Hostile payloads at speed: a valid event's JSON, spoilt literal by literal, then byte by byte. All chance comes from one generator."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from streams.config import Topic
from streams.events.json_text import MAX_BYTES
from tests.unit.hostile_events import BAD_BYTES, DECIMALS, NUMBERS, OPTIONAL, OWN, RAW, SHARED, TEXTS, TIMES, Sent, valid

Pairs = list[tuple[str, str]]

#: Names that mean something to some language, or nearly something to us.
_STRANGE_NAMES = [
    "__proto__",
    "constructor",
    "__class__",
    "__init__",
    "",
    " ",
    "event_id ",
    "Event_id",
    "$ref",
    "a\x00b",
    "\ud800",
    "n" * 300,
]
_CAMPAIGN_FIELDS = (
    "campaign_id", "name", "account_id", "channel", "platform", "owner", "time_zone", "starts_on", "ends_on", "budget", "currency", "pacing", "targets",
    "calendar", "labels",
)  # fmt: skip
_CAMPAIGN_LITERALS = [
    '"Europe/Berlin"', '"../../etc/passwd"', '"UTC\\u0000"', '"posixrules"', '"Europe"', '"/"', '"2026-02-30"', '"2026-11-23"', '"0000-01-01"', '"9999-12-31"', '"asap"', '"profile"',
    "[1,2,3]", "[0,0]", "[1e400]", "[-1]", '["0.5",null]', "[" + "1," * 9_000 + "1]", '{"daily":1}', '{"daily":-1}', '{"daily":{"daily":1}}', '{"monthly":"1e5"}', '{"lifetime":NaN}',
    '{"cpa":0}', '{"roas":"x"}', '{"gmv":1e400}', '{"2026-11-27":3}', '{"2026-11-27":"3","2026-11-27":4}', '{"20261127":3}', '{"x":1}', '[{"date":"2026-11-27","factor":3}]', '[{"date":1}]',
    '[{"factor":1}]', "[[]]", '{"":""}', '{"team":"north"}', '{"team":5}', '{"\\ud800":"x"}', '{"t":"\\ud800"}', '["a","b"]', '["\\ud800"]', "{" + ",".join(f'"k{i}":"v"' for i in range(4_000)) + "}",
]  # fmt: skip
_BLANKS = ["", "", "", "", " ", "\n\t", "\r", "\f", "\u00a0", "\ufeff", "/**/"]
_KEYS = [b"c-1"] * 12 + [None, b"", b"c-2", b"\xff", b"\x00", b"c" * 129, "Ünï".encode(), b"\xed\xa0\x80", b"k" * 100_000]
_RECORD_TIMES = [1_795_000_000_000] * 9 + [0, 1, 1_795_404_273_123, 253_402_300_799_999]


def fields_of(topic: Topic) -> tuple[str, ...]:
    """The names that records of a topic may have."""
    return _CAMPAIGN_FIELDS if topic is Topic.CAMPAIGNS else (*SHARED, *OPTIONAL, *OWN[topic])


def payload(chance: random.Random, topic: Topic) -> Sent:
    """One record for `topic`: seldom valid, mostly near to it."""
    pairs = _plain(chance, topic)
    for _ in range(min(6, int(chance.expovariate(0.6)))):
        _spoil(chance, topic, pairs)
    blank = chance.choice(_BLANKS) if chance.random() < 0.1 else ""
    text = "{" + ("," + blank).join(f"{name}:{blank}{value}" for name, value in pairs) + "}" + blank
    value: bytes | None = text.encode("utf-8", "surrogatepass")
    while chance.random() < 0.3:
        value = mangled(chance, value or b"")
    if chance.random() < 0.005:
        value = None
    return Sent(value, chance.choice(_KEYS), chance.choice(_RECORD_TIMES))


def _plain(chance: random.Random, topic: Topic) -> Pairs:
    if topic is Topic.CAMPAIGNS:
        content: dict[str, object] = {"campaign_id": "c-1", "name": "Spring"}
        return [(json.dumps(name), json.dumps(value)) for name, value in content.items()]
    pairs = [(json.dumps(name), json.dumps(value)) for name, value in valid(topic).items()]
    pairs += [
        (json.dumps(name), f'"{name[:3]}-{chance.randrange(9)}"') for name in OPTIONAL if name != "currency" and chance.random() < 0.2
    ]
    return pairs


def _spoil(chance: random.Random, topic: Topic, pairs: Pairs) -> None:
    act = chance.random()
    name = json.dumps(chance.choice(fields_of(topic)))
    if act < 0.06 and pairs:
        pairs.pop(chance.randrange(len(pairs)))
        return
    if act < 0.10:
        name = json.dumps(chance.choice(_STRANGE_NAMES))
    elif act < 0.13:
        # The same name, written otherwise.
        name = '"' + "".join(f"\\u{ord(c):04x}" if chance.random() < 0.3 else c for c in name[1:-1]) + '"'
    elif act < 0.134:
        pairs += [(f'"x{i}"', "0") for i in range(chance.choice((50, 50, 50, 500, 5_000)))]
        return
    if chance.random() < 0.6:
        # Instead of what is there; otherwise beside it: of duplicate keys the last wins.
        pairs[:] = [pair for pair in pairs if pair[0] != name]
    pairs.insert(chance.randint(0, len(pairs)), (name, literal(chance, topic)))


def literal(chance: random.Random, topic: Topic) -> str:
    """The text of one JSON value, or of what only looks like one."""
    made: list[Callable[[random.Random], str]] = [_listed, _listed, _number, _text, _time, _nested]
    if topic is Topic.CAMPAIGNS and chance.random() < 0.5:
        return chance.choice(_CAMPAIGN_LITERALS)
    return chance.choice(made)(chance)


def _listed(chance: random.Random) -> str:
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice(NUMBERS)
    if kind == 1:
        return chance.choice(RAW)
    return json.dumps(chance.choice((TEXTS, TIMES, DECIMALS)[chance.randrange(3)]), ensure_ascii=chance.random() < 0.5)


def _number(chance: random.Random) -> str:
    digits = chance.choice((1, 2, 3, 6, 9, 17, 19, 20, 40)) if chance.random() < 0.97 else chance.choice((400, 4_300, 4_301, 30_000))
    text = chance.choice(("", "", "", "-", "+", "0", "-0")) + "".join(chance.choices("0123456789", k=digits))
    if chance.random() < 0.5:
        text += "." + "".join(chance.choices("0123456789", k=chance.choice((0, 1, 2, 6, 7, 18, 400))))
    if chance.random() < 0.3:
        text += chance.choice("eE") + chance.choice(("", "+", "-")) + str(chance.choice((0, 1, 2, 6, 308, 309, 400, 10**9, 10**19, 10**30)))
    return text if chance.random() < 0.7 else f'"{text}"'


def _text(chance: random.Random) -> str:
    alphabet = chance.choice(
        (
            "abc",
            "a\\\"'/<&",
            "\x00\x01\x1f\x7f\x80\x9f",
            "äß\u0130\u0131\u1e9e",
            "\u202e\u200b\ufeff\u2028",
            "\U0001f600\U0010ffff",
            "\ud800\udc00\udfff",
            "0٣²",
        )
    )
    text = "".join(chance.choices(alphabet + "x", k=chance.choice((0, 1, 2, 5, 64, 65, 128, 129, 256, 257))))
    text *= 1 if chance.random() < 0.97 else chance.choice((9, 100))
    return json.dumps(text, ensure_ascii=chance.random() < 0.5)


def _time(chance: random.Random) -> str:
    text = list(chance.choice(TIMES[:4]))
    for _ in range(chance.randint(0, 2)):
        text[chance.randrange(len(text))] = chance.choice("0123456789-:.TtZz +,WeE")
    return json.dumps("".join(text)) if chance.random() < 0.8 else str(chance.randint(-(10**14), 10**15))


def _nested(chance: random.Random) -> str:
    depth = chance.choice((1, 2, 3, 10)) if chance.random() < 0.97 else chance.choice((200, 900, 1_000, 1_100, 5_000, 30_000))
    start, end = chance.choice((("[", "]"), ('{"a":', "}"), ('[{"":', "}]")))
    return start * depth + chance.choice(("1", "null", '""', "")) + end * (depth if chance.random() < 0.8 else depth - 1)


def mangled(chance: random.Random, value: bytes) -> bytes:
    """The bytes with one place of them, or all of them, changed."""
    at = chance.randint(0, len(value))
    to = min(len(value), at + chance.choice((0, 1, 1, 2, 8, 60)))
    act = chance.randrange(12)
    if act < 3:
        return value[:at] + chance.choice(BAD_BYTES) + value[to:]
    if act < 6:
        return value[:at] + chance.randbytes(chance.randint(1, 3)) + value[to:]
    if act == 6:
        return value[:at] + chance.choice((b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"0", b"-")) + value[to:]
    if act == 7:
        return value[:at] if chance.random() < 0.5 else value[at:]
    if act == 8:
        return value[:at] + value[to:]
    if act == 9:
        return value[:to] + value[at:]
    if act == 10 and chance.random() < 0.2:
        return b" " * max(0, MAX_BYTES - len(value) + chance.randint(-1, 1)) + value
    whole = (
        b"\xef\xbb\xbf" + value,
        value + b"\x00",
        value + value,
        b"[" + value + b"]",
        value.decode("utf-8", "replace").encode("utf-16"),
        chance.randbytes(40),
    )
    return chance.choice(whole) if chance.random() < 0.98 else chance.choice((b"[" * 65_536, value * 300))
