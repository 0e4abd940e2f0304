"""Values nested deeper than the interpreter may recurse: judged as JSON says, in time that grows with their length and no faster."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.events.json_text import _KEPT_DEPTH, MAX_BYTES, Number, _is_deep, _read_deep, read_object
from streams.events.refusal import Reason, Refusal

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4))
#: Signs that a broken text is most likely to break at.
TEXTS = st.text(alphabet='[]{},:"\\ 0-.1etrue\n', max_size=30)


def loaded(text: str) -> Any:
    return json.loads(text, parse_float=Number, parse_int=Number)


def cut(value: Any, depth: int = 0) -> Any:
    """The value with what lies too deep left out."""
    if isinstance(value, dict):
        return {} if depth == _KEPT_DEPTH else {name: cut(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list):
        return [] if depth == _KEPT_DEPTH else [cut(part, depth + 1) for part in value]
    return value


@given(VALUES, st.integers(0, 2 * _KEPT_DEPTH), st.sampled_from(("[", '{"a":', '[1,{"b":[]},')))
def test_deep_values_are_read_as_json_reads_them(value: Any, depth: int, opening: str) -> None:
    closing = "}" if opening[0] == "{" else "]"
    text = opening * depth + json.dumps(value) + closing * depth
    assert _read_deep(text) == _shallow(loaded(text))


def _shallow(value: Any) -> Any:
    # An array at the depth that is kept stays, empty; scalars beside it stay too.
    return cut(value, 1)


@given(TEXTS)
@example('{"a":1,}')
@example("[1,]")
@example('["a":1]')
@example('{"a"}')
@example("[")
def test_what_json_does_not_take_is_refused_at_any_depth(text: str) -> None:
    for wrapped in (text, "[" * (_KEPT_DEPTH + 2) + text + "]" * (_KEPT_DEPTH + 2)):
        try:
            expected = _shallow(loaded(wrapped))
        except json.JSONDecodeError:
            with pytest.raises(Refusal):
                _read_deep(wrapped)
        else:
            assert _read_deep(wrapped) == expected


def calls(text: str) -> int:
    """Calls of functions, the interpreter's own too, that it takes to read a text."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        _read_deep(text)
    except Refusal:
        pass
    finally:
        sys.setprofile(None)
    return count


SHAPES = {
    "arrays": (b"[", b""),
    "closed arrays": (b"[", b"]"),
    "objects": (b'{"a":', b"1}"),
    "arrays with more behind": (b"[1,", b""),
    "arrays with arrays before": (b"[[],", b"1]"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_as_long_is_twice_the_work(shape: str) -> None:
    opening, closing = SHAPES[shape]
    half = MAX_BYTES // 2 // (len(opening) + len(closing))
    once, twice = (calls((opening * n + closing * n).decode()) for n in (half, 2 * half))
    assert once > half
    assert twice < 2.1 * once


@pytest.mark.parametrize("shape", SHAPES)
def test_one_deep_record_does_not_set_the_garbage_collector_going(shape: str) -> None:
    """Each of its full passes goes through all of a worker's memory, which takes longer than the record by far."""
    opening, closing = SHAPES[shape]
    deep = MAX_BYTES // (len(opening) + len(closing))
    passes = 0

    def note(phase: str, _: Any) -> None:
        nonlocal passes
        passes += phase == "start"

    gc.collect()
    gc.callbacks.append(note)
    try:
        with pytest.raises(Refusal) as refused:
            read_object(opening * deep + closing * deep)
    finally:
        gc.callbacks.remove(note)
    assert refused.value.reason is Reason.MALFORMED
    assert passes <= 10


def said(text: str, callers: int) -> str:
    """Why a text is refused where so many functions more have called."""
    if callers:
        return said(text, callers - 1)
    with pytest.raises(Refusal) as refused:
        read_object(text.encode())
    return refused.value.detail


@pytest.mark.parametrize("deep", [300, 399, 400, 700, 960, 1_200])
@pytest.mark.parametrize("opening", ['{"a":', "[", '[{"a":[],"b":'])
def test_a_refusal_says_the_same_however_deep_its_caller_is(opening: str, deep: int) -> None:
    text = opening * deep + "{,"
    assert len({said(text, callers) for callers in (0, 200, 450)}) == 1


@pytest.mark.parametrize("behind", ["", '"', '\\"', "\\", "\x01"])
@pytest.mark.parametrize("text", ['["' + "[" * 20_000, "[" + "[]," * 20_000 + '"', '["' + '\\"[' * 15_000])
def test_brackets_in_a_string_or_beside_each_other_are_not_deep(text: str, behind: str) -> None:
    assert not _is_deep(text + behind)
