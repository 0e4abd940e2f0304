"""What the processes of `tests.integration.forks` share: imported once, in the process that they are forked from."""

from __future__ import annotations

import importlib

import streams.app.worker  # noqa: F401
from alerts.cli import COMMANDS
from streams.ingest.warm_up import warm_up

for entry in COMMANDS:
    importlib.import_module(entry.target.partition(":")[0])
warm_up()
