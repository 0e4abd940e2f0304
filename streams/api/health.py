"""What a process says about itself to whoever supervises it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Health:
    """`alive` False: restart this process. `ready` False: leave it alone, but do not count on its answers yet."""

    alive: bool
    ready: bool
    #: What the verdict rests on (lag, progress, connections), as JSON values.
    details: dict[str, Any] = field(default_factory=dict)

    def content(self, good: bool, bad: str) -> dict[str, Any]:
        """The JSON of /healthz and /readyz."""
        return {"status": "ok" if good else bad, "alive": self.alive, "ready": self.ready, "details": self.details}
