"""From the bytes of a record to one JSON object whose numbers keep their literal text.

JSON's own grammar is the only limit: a number may have any number of digits, and nesting may be as deep as 64 KiB allow. Neither
floats nor the interpreter's recursion limit have a say in what is valid, so a record is judged alike on every machine, and in the same
words. What lies deeper than any field of the contract is read and checked, but not kept, when nesting is deep.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from streams.events.refusal import Reason, Refusal

#: Longest value of a record, bytes.
MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written."""

    text: str


def read_object(value: bytes) -> dict[str, Any]:
    """The JSON object that `value` holds; numbers are `Number`, of duplicate keys the last wins.

    Raises Refusal: too_large, or malformed when the bytes are not one UTF-8 JSON object.
    """
    if len(value) > MAX_BYTES:
        raise Refusal(Reason.TOO_LARGE, f"the value has {len(value)} bytes; at most {MAX_BYTES} are taken")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(Reason.MALFORMED, f"not UTF-8: byte {error.start} cannot be read; send the JSON text as UTF-8") from error
    if text.startswith("\ufeff"):
        raise Refusal(Reason.MALFORMED, "the value starts with a byte-order mark; send the JSON text without it")
    try:
        content = _read_deep(text) if _is_deep(text) else _read_flat(text)
    except json.JSONDecodeError as error:
        raise Refusal(Reason.MALFORMED, f"not JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(content, dict):
        raise Refusal(Reason.MALFORMED, f"expected one JSON object, got {_named(content)}")
    return content


def _read_flat(text: str) -> Any:
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise Refusal(Reason.MALFORMED, f"not JSON: {name} is no JSON number; leave the field out")


def _named(content: Any) -> str:
    if isinstance(content, Number):
        return "a number"
    if isinstance(content, str):
        return "a string"
    return "an array" if isinstance(content, list) else {None: "null", True: "true", False: "false"}[content]


_TOKEN = re.compile(
    r"""(?P<mark>[{}\[\],:])
    | (?P<string>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | (?P<word>true|false|null)""",
    re.VERBOSE,
)
#: A mark of nesting, or a string, which may hold such marks; one without an end goes on to that of the text.
_MARK_OR_STRING = re.compile(r"""[][{}]|"(?:[^"\\]|\\.)*(?:"|\\?\Z)""", re.DOTALL)
_BLANK = re.compile(r"[ \t\n\r]*")
_WORDS = {"true": True, "false": False, "null": None}
_CLOSING = {"{": "}", "[": "]"}


#: Nesting from which on the interpreter does not recurse, which it may do 1,000 deep, callers and all.
_DEEP = 400
#: How deep values are kept where nesting is that deep: the contract's own fields lie at most 4 deep.
_KEPT_DEPTH = 16


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") < _DEEP:
        return False
    steps = (1 if found in "[{" else -1 if found in "]}" else 0 for found in _MARK_OR_STRING.findall(text))
    return max(accumulate(steps)) >= _DEEP


def _read_deep(text: str) -> Any:
    """What `json.loads` would give, with a stack of its own: for values nested more deeply than the interpreter may recurse.

    Arrays and objects at `_KEPT_DEPTH` are empty whatever they hold: tens of thousands of them, one in the other, would make the garbage
    collector go through all of the process' memory again and again for a single record.
    """
    # Of every open array and object its kind; the object itself and the key it waits with only of those that are kept.
    kinds: list[str] = []
    holders: list[tuple[Any, str | None]] = []
    holder: Any = None
    key: str | None = None
    result: Any = None
    # What may come next: a value, a key, what follows a key, what follows a value; "first" also allows to close an empty holder.
    expect, first = "value", False
    at = _blank_end(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            break
        lexeme, kind = match.group(), match.lastgroup
        kept = len(kinds) < _KEPT_DEPTH
        complete, value = False, None
        if expect == "value" and kind != "mark":
            complete = True
            if kept:
                value = _WORDS[lexeme] if kind == "word" else Number(lexeme) if kind == "number" else json.loads(lexeme)
        elif expect == "value" and lexeme in _CLOSING:
            if kept:
                holders.append((holder, key))
                holder, key = ({} if lexeme == "{" else []), None
            kinds.append(lexeme)
            expect, first = ("key" if lexeme == "{" else "value"), True
        elif expect == "key" and kind == "string":
            if kept:
                key = json.loads(lexeme)
            expect, first = "colon", False
        elif expect == "colon" and lexeme == ":":
            expect = "value"
        elif expect == "after" and lexeme == "," and kinds:
            expect = "key" if kinds[-1] == "{" else "value"
        elif kinds and (expect == "after" or first) and lexeme == _CLOSING[kinds[-1]]:
            kinds.pop()
            complete = True
            if len(kinds) < _KEPT_DEPTH:
                value = holder
                holder, key = holders.pop()
        else:
            break
        if complete:
            expect, first = "after", False
            if not kinds:
                result = value
            elif len(kinds) < _KEPT_DEPTH:
                if kinds[-1] == "{":
                    holder[key] = value
                else:
                    holder.append(value)
        at = _blank_end(text, match.end())
    if at < len(text) or expect != "after" or kinds:
        raise Refusal(Reason.MALFORMED, f"not JSON: it cannot be read on from character {at}")
    return result


def _blank_end(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return at if match is None else match.end()
