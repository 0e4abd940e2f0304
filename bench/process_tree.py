"""Processor time of a process and everything that it has started, from Linux' /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessTree:
    """A process and its descendants; those that ended between two looks are known by what their parents waited for."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._last: dict[int, float] = {}

    def cpu_seconds(self) -> float:
        """Processor time so far, of user and kernel. Never falls: what a process had used stays when it is gone."""
        found = {pid: (parent, used) for pid, parent, used in map(_stat, _pids()) if parent >= 0}
        for pid, (_, used) in found.items():
            if self._ours(pid, found):
                self._last[pid] = max(self._last.get(pid, 0.0), used)
        return sum(self._last.values())

    def _ours(self, pid: int, found: dict[int, tuple[int, float]]) -> bool:
        while pid > 1:
            if pid == self._pid or pid in self._last:
                return True
            pid = found.get(pid, (0, 0.0))[0]
        return False


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> tuple[int, int, float]:
    """pid, parent, seconds of its own; a parent of -1 if it is gone."""
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return pid, -1, 0.0
    return pid, int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
