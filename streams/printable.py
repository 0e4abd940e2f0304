"""Text that others wrote, as a terminal may show it."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with what is not printable escaped: it moves no cursor, sets no colour, ends no line and turns no direction."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, whose line ends stay."""
    return "\n".join(map(printable, text.split("\n")))
