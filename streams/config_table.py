"""The configuration table of the README, made from the settings themselves: `python -m streams.config_table README.md`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from streams.config import ENV_PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key in the file (`kafka.partitions`), its variable, its default as YAML would take it, and its meaning."""

    key: str
    variable: str
    default: str
    meaning: str


def settings(section: BaseModel | None = None, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting, in the order of the classes; nested ones by their dotted key."""
    section = Settings.model_construct() if section is None else section
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        key = (*path, name)
        if isinstance(value, BaseModel):
            yield from settings(value, key)
        else:
            meaning = " ".join((field.description or "").split())
            yield Setting(".".join(key), ENV_PREFIX + "__".join(key).upper(), _written(value), meaning)


def markdown() -> str:
    """The table, a line per setting."""
    lines = ["| key | default | what it does |", "|---|---|---|"]
    lines += [f"| `{s.key}` | {f'`{s.default}`' if s.default else ''} | {s.meaning.replace('|', chr(92) + '|')} |" for s in settings()]
    return "\n".join(lines)


def inserted(text: str) -> str:
    """`text` with the table between its two `settings` comments. Raises ValueError where they are missing."""
    found = re.search(r"(<!-- settings: [^\n]*-->\n).*?(<!-- /settings -->)", text, re.DOTALL)
    if found is None:
        raise ValueError("no comments <!-- settings: ... --> and <!-- /settings -->")
    return f"{text[: found.start()]}{found[1]}\n{markdown()}\n\n{found[2]}{text[found.end() :]}"


def _written(value: Any) -> str:
    """A default as one would write it; nothing for an absent one and for secrets."""
    if value is None or isinstance(value, SecretStr):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(value, default=lambda v: v.model_dump(mode="json") if isinstance(v, BaseModel) else str(v))


if __name__ == "__main__":
    for document in map(Path, sys.argv[1:]):
        document.write_text(inserted(document.read_text(encoding="utf-8")), encoding="utf-8")
