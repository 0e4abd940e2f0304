"""What `campaignwatch replay` says before it sends anything; tests/integration/test_replay.py has the sending."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import typer

from streams.config import Money, Settings, SpendSource
from streams.replay import progress
from streams.replay.command import replay
from streams.replay.mapping import load_mapping
from streams.replay.reading import ReadError, open_source

REPORT = """
time: {column: hour, format: "%Y-%m-%d %H", length: 1h}
columns: {campaign_id: campaign, platform: network}
constants: {channel: search}
events:
  - {topic: clicks, count: clicks}
  - {topic: spend, columns: {amount: cost}}
"""
ROWS = "hour,campaign,network,clicks,cost\n2026-11-20 09,a,google,31,18.40\n2026-11-20 10,b,bing,44,2\n"


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    rows, mapping = tmp_path / "rows.csv", tmp_path / "mine.yaml"
    rows.write_text(ROWS)
    mapping.write_text(REPORT)
    return rows, mapping


def dry(capsys: pytest.CaptureFixture[str], rows: Path, mapping: Path, **options: Any) -> tuple[int, list[str]]:
    """Exit status and lines of a dry run."""
    options.setdefault("state", rows.parent / "state.json")
    try:
        replay([rows], mapping, dry_run=True, **options)
        status = 0
    except typer.Exit as end:
        status = end.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    return status, said.err.splitlines()


def test_it_says_what_the_rows_make_and_when_it_was(capsys: pytest.CaptureFixture[str], paths: tuple[Path, Path]) -> None:
    status, said = dry(capsys, *paths)
    assert status == 0
    assert said[0] == "2 rows make 77 events (75 marketing.clicks, 2 marketing.spend) from 2026-11-20 09:00:00Z to 2026-11-20 11:00:00Z."
    assert said[-1] == "Nothing was sent (--dry-run)."


def test_a_row_with_several_faults_is_one_row(capsys: pytest.CaptureFixture[str], paths: tuple[Path, Path]) -> None:
    rows, mapping = paths
    rows.write_text(ROWS + '2026-11-20 11,c,google,1.5,"2,50"\nsoon,d,google,1,1\n2026-11-20 11,e,google,1\n')
    status, said = dry(capsys, rows, mapping)
    assert status == 1
    assert said[:4] == [
        f"{rows}:4: clicks: got '1.5'; expected a whole number",
        f"{rows}:4: cost: got '2,50'; expected money: digits with an optional fraction, no sign",
        f"{rows}:5: hour: got 'soon'; expected a time as %Y-%m-%d %H",
        f"{rows}:6: 4 columns where the header names 5",
    ]
    assert said[-1] == "3 of 5 rows could not be used, or not for every event of the mapping."
    _, said = dry(capsys, rows, mapping, errors=1)
    assert said[1] == "... and 3 more of this kind (--errors shows up to 1,000)."
    assert said[-1].startswith("3 of 5 rows")


def test_where_the_spend_of_reports_shows_is_said(
    capsys: pytest.CaptureFixture[str], paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, said = dry(capsys, *paths)
    assert "Note: reports of bing, google count as `reported_spend`, not as `spend`." in said
    assert "money.spend_sources: {bing: reports, google: reports}" in "".join(said)
    settings = Settings(money=Money(spend_sources=dict.fromkeys(["bing", "google"], SpendSource.REPORTS)))
    monkeypatch.setattr("streams.replay.command.load", lambda path: settings)
    _, said = dry(capsys, *paths)
    assert "Note" not in "".join(said)


def test_an_earlier_replay_is_known_again_and_only_by_its_own_files(capsys: pytest.CaptureFixture[str], paths: tuple[Path, Path]) -> None:
    rows, mapping = paths
    state = rows.parent / "state.json"
    _, said = dry(capsys, rows, mapping, resume=True)
    assert said[0] == "No interrupted replay of this is known; starting at the beginning."
    name = progress.identity(Settings(), load_mapping(mapping), [open_source(rows)], by_time=False)
    progress.save(state, progress.Progress(name, 86_400_000, 50))
    _, said = dry(capsys, rows, mapping)
    assert said[0] == "An earlier replay of this stopped after 50 of 77 events; --resume would go on there."
    # Whatever is asked for now, the times go on as they began.
    _, said = dry(capsys, rows, mapping, resume=True, to_now=True)
    assert "to 2026-11-21 11:00:00Z, moved by +1 days." in said[0]
    rows.write_text(ROWS.replace("31", "32"))
    with pytest.raises(progress.ProgressError, match=r"state\.json: is of another replay .*leave --resume out"):
        dry(capsys, rows, mapping, resume=True)


def test_history_that_is_too_old_or_lies_ahead_is_warned_of(capsys: pytest.CaptureFixture[str], paths: tuple[Path, Path]) -> None:
    rows, mapping = paths
    rows.write_text(ROWS.replace("2026-11-20", "2001-01-01"))
    _, said = dry(capsys, rows, mapping)
    assert "days old; those older than 400 days will count as too late." in "".join(said)
    assert "--shift-to-now moves all of it near to the present" in "".join(said)
    ahead = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 2 * 86_400))
    rows.write_text(ROWS.replace("2026-11-20", ahead))
    _, said = dry(capsys, rows, mapping)
    assert "some lie in the future and will be quarantined" in "".join(said)
    _, said = dry(capsys, rows, mapping, to_now=True)
    assert "Warning" not in "".join(said)


def test_the_same_file_twice_is_refused(paths: tuple[Path, Path]) -> None:
    rows, mapping = paths
    (rows.parent / "other").mkdir()
    copy = rows.parent / "other" / rows.name
    copy.write_text(ROWS)
    with pytest.raises(ReadError, match=r"other/rows\.csv: holds the same as .*rows\.csv; name it once"):
        replay([rows, copy], mapping, dry_run=True)


def test_nothing_to_send_is_no_failure(capsys: pytest.CaptureFixture[str], paths: tuple[Path, Path]) -> None:
    rows, mapping = paths
    rows.write_text(ROWS.splitlines()[0] + "\n")
    assert dry(capsys, rows, mapping) == (0, ["No row makes an event; nothing to send."])
