"""A replay's progress is kept whole or not at all, and belongs to these files, this mapping and these topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.config import Kafka, Settings
from streams.replay import progress
from streams.replay.mapping import load_mapping
from streams.replay.reading import Source, open_source


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    assert progress.load(path) is None
    kept = progress.Progress("abc", -86_400_000, 12_345)
    progress.save(path, kept)
    assert progress.load(path) == kept
    assert [each.name for each in path.parent.iterdir()] == ["state.json"]
    progress.forget(path)
    progress.forget(path)
    assert progress.load(path) is None


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"identity": "a", "shift_ms": "x", "sent": 1}'])
def test_a_broken_state_file_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(progress.ProgressError, match=r"state\.json: holds no progress of a replay .*--state"):
        progress.load(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(progress.ProgressError, match="--state"):
        progress.save(tmp_path / "file" / "state.json", progress.Progress("a", 0, 0))


def test_the_identity_changes_with_whatever_changes_the_events(tmp_path: Path) -> None:
    def source(text: str) -> list[Source]:
        path = tmp_path / "rows.csv"
        path.write_text(text)
        return [open_source(path)]

    otto, tabmo = load_mapping(Path("otto")), load_mapping(Path("tabmo"))
    here, there = Settings(), Settings(kafka=Kafka(topic_prefix="other"))
    names = {
        progress.identity(here, otto, source("a\n1\n"), by_time=False),
        progress.identity(here, otto, source("a\n1\n"), by_time=True),
        progress.identity(here, otto, source("a\n2\n"), by_time=False),
        progress.identity(here, tabmo, source("a\n1\n"), by_time=False),
        progress.identity(there, otto, source("a\n1\n"), by_time=False),
    }
    assert len(names) == 5
    assert progress.identity(here, otto, source("a\n1\n"), by_time=False) in names


def test_the_usual_place_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert progress.default_path("0123456789abcdef0123") == tmp_path / "campaignwatch" / "replay-0123456789abcdef.json"
