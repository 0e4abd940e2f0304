"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: `--config FILE`; without it the settings are the defaults and the environment.
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (YAML). The environment wins over it.")]
