"""Files that operators write: whatever YAML makes of them, one sentence names the file. Found by `make fuzz`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streams.campaigns import read_changes
from streams.config import Money, load
from streams.errors import UserError
from streams.replay.mapping import load_mapping

READERS: list[Callable[[Path], object]] = [load, load_mapping, lambda path: read_changes(path, Money())]
FILES = {
    "nested too deeply": "[" * 3_000,
    "a date that no calendar has": "x: 2026-02-30",
    "a key that is no text": "~: 1\n5: {}",
    "an alias that holds itself": "campaigns:\n- {campaign_id: c-1, name: &a [*a]}",
    "not UTF-8": "x: \udcff",
    "an object of Python's": "x: !!python/object:os.system y",
}


@pytest.mark.parametrize("read", READERS, ids=["settings", "mapping", "campaigns"])
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_strange_file_is_refused_by_name(read: Callable[[Path], object], content: str, tmp_path: Path) -> None:
    path = tmp_path / "strange.yaml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"strange\.yaml"):
        read(path)
