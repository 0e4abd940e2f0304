"""A ceiling on a process' processor time, by Linux' control groups: so that two workers are measured, not the machine that they share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 20_000


def available() -> bool:
    """Whether this user may make control groups here."""
    return os.access(_parent(), os.W_OK)


def _parent() -> Path:
    first = _ROOT / "cpu"
    return first if first.is_dir() else _ROOT


@contextlib.contextmanager
def quota(pid: int, cores: float) -> Iterator[None]:
    """Let a process and its threads have `cores` of a core (0.3: three tenths of one). Raises OSError where that is not allowed."""
    group = _parent() / f"campaignwatch-bench-{pid}"
    group.mkdir()
    try:
        share = int(cores * _PERIOD_US)
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(share), encoding="ascii")
        else:
            (group / "cpu.max").write_text(f"{share} {_PERIOD_US}", encoding="ascii")
        (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield
    finally:
        with contextlib.suppress(OSError):
            (_parent() / "cgroup.procs").write_text(str(pid), encoding="ascii")
        with contextlib.suppress(OSError):
            group.rmdir()
