"""What producers write does nothing to the terminal of whoever looks at it."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streams.api.cli import as_csv_text, render
from streams.api.kpis import KpiPage
from streams.printable import printable, printable_lines

#: C0 and C1 controls, and the marks that turn the direction of text.
ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
HOSTILE = ["\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\nb", "\u202egnp.exe", "\ud800", "\x7f", "\x08\x08"]


@given(st.text(alphabet=st.characters()))
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    shown = printable(text)
    assert ACTS.search(shown) is None
    assert ACTS.search(printable_lines(text).replace("\n", "")) is None
    shown.encode()


@pytest.mark.parametrize("text", ["Sommer 50 % \u2013 \u5317\u6d77\u9053", "[red]", "=1+2", ""])
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_the_table_of_kpis_shows_it_and_csv_hands_it_on(text: str) -> None:
    page = KpiPage("region", ("region",), 0, 60_000, True, 1, [{"region": text, "clicks": 5}])
    out = io.StringIO()
    Console(file=out, width=200).print(render(page, {}, ["clicks"], "USD"))
    assert ACTS.search(out.getvalue().replace("\n", "")) is None
    assert printable(text) in out.getvalue()
    assert text in as_csv_text(page)
