"""Write the dashboards' JSON beside this module: `python -m grafana.build`. With `--check`, only say whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.overview import overview

DIRECTORY = Path(__file__).parent / "dashboards"

#: File -> what makes its dashboard.
DASHBOARDS = {"overview.json": overview}


def text_of(name: str) -> str:
    """The JSON of the dashboard `name`, as it is committed."""
    return JSONEncoder(sort_keys=True, indent=2).encode(DASHBOARDS[name]()) + "\n"


def stale() -> list[str]:
    """Names of files that are absent or differ from what the code makes, and of files that no code makes."""
    found = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    wanted = {name: text_of(name) for name in DASHBOARDS}
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def main(arguments: list[str]) -> int:
    """Exit status 1 when `--check` finds a file that is not what the code makes."""
    if "--check" in arguments:
        different = stale()
        sys.stderr.writelines(f"{DIRECTORY / name} is not what the code makes; run: python -m grafana.build\n" for name in different)
        return 1 if different else 0
    for name in DASHBOARDS:
        (DIRECTORY / name).write_text(text_of(name), encoding="utf-8")
        sys.stdout.write(f"{DIRECTORY / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
