"""The examples in docs/scaling.md, as `campaignwatch plan` prints them with the coefficients of this version.

    python -m bench.scaling_document

An example stands between `<!-- plan: OPTIONS -->` and `<!-- /plan -->`; with `| TITLE` behind the options only the parts whose first line
begins with one of the titles (`a; b`).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer
from typer.testing import CliRunner

from streams.planning.command import plan

DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
_EXAMPLE = re.compile(r"(<!-- plan: (?P<options>[^|>]*?)(?: \| (?P<titles>[^>]*?))? -->\n).*?(<!-- /plan -->)", re.DOTALL)


def inserted(text: str) -> str:
    """The document with every example as the command prints it now."""
    return _EXAMPLE.sub(lambda found: f"{found[1]}```console\n{_example(found['options'], found['titles'])}```\n{found[4]}", text)


def _example(options: str, titles: str | None) -> str:
    shown = _printed(options)
    if titles is not None:
        wanted = tuple(title.strip() for title in titles.split(";"))
        shown = "\n\n".join(part for part in shown.split("\n\n") if part.startswith(wanted)) + "\n"
    return f"$ campaignwatch plan {options}\n{shown}"


def _printed(options: str) -> str:
    """By the command itself. No settings but the defaults: an operator's own must not get into the document."""
    app = typer.Typer()
    app.command()(plan)
    result = CliRunner().invoke(app, shlex.split(options), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def main() -> None:
    DOCUMENT.write_text(inserted(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
