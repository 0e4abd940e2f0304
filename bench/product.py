"""The product's own processes as an operator starts them: `campaignwatch streams`, `campaignwatch alerts`, with a settings file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.figures import Buckets
from streams.config import ENV_PREFIX, Settings
from streams.embedded import Server, ports

#: What benchmarks set; secrets are not among it.
_SECTIONS = ("kafka", "redis", "streams", "money", "alerts")


class Role(Server):
    """One process. As a context manager it is ready on entry and ended on exit. `secrets`: environment variables without their prefix."""

    #: It loads its libraries, joins the group and claims its partitions.
    start_timeout = 60.0

    def __init__(self, role: str, settings: Settings, secrets: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.name = f"{role} process"
        self._role = role
        self._settings = settings
        self._secrets = secrets or {}

    @property
    def url(self) -> str:
        """Base of its pages."""
        return f"http://{ports.HOST}:{self.port}"

    @property
    def _file(self) -> Path:
        return self.directory / "campaignwatch.yaml"

    def prepare(self) -> None:
        """Write the settings, with the port that is free."""
        content: dict[str, Any] = {name: getattr(self._settings, name).model_dump(mode="json") for name in _SECTIONS}
        content[self._role]["http_port"] = self.port
        self._file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def command(self) -> list[str]:
        """The role's own command, with the same Python."""
        return [sys.executable, "-m", "alerts.cli", self._role, "--config", str(self._file)]

    def environment(self) -> dict[str, str]:
        """The caller's, without settings of the caller's own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        return {**kept, **{ENV_PREFIX + name: value for name, value in self._secrets.items()}}

    def answers(self) -> bool:
        """Whether it is ready to work."""
        with urlopen(f"{self.url}/readyz", timeout=1.0) as answer:  # nosec B310 # its own page
            return bool(answer.status == 200)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of its /metrics, by name and labels."""
        with urlopen(f"{self.url}/metrics", timeout=10.0) as answer:  # nosec B310 # its own page
            families = text_string_to_metric_families(answer.read().decode())
            return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}

    def histogram(self, name: str, **labels: str) -> Buckets | None:
        """A histogram of its /metrics; None before the first value."""
        found: dict[float, float] = {}
        for (sample, pairs), value in self.metrics().items():
            if sample == f"{name}_bucket" and {k: v for k, v in pairs if k != "le"} == labels:
                found[float(dict(pairs)["le"])] = value
        return Buckets(tuple(sorted(found)), tuple(found[bound] for bound in sorted(found))) if found else None
