"""What the processes write to standard error."""

from __future__ import annotations

import re
import subprocess
import sys


def written_at(level: str) -> list[str]:
    program = (
        f"import logging; from streams.logs import configure; configure({level!r})\n"
        "logging.getLogger('streams.app').info('started on %s', 8081)\n"
        "logging.getLogger('streams.app').debug('detail')\n"
        "logging.getLogger('aiokafka.conn').info('chatter')\n"
        "logging.getLogger('aiokafka.conn').warning('broker away')\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stderr.splitlines()


def test_a_line_has_time_level_place_and_message() -> None:
    first, second = written_at("INFO")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    streams\.app: started on 8081", first)
    assert second.endswith("WARNING aiokafka.conn: broker away")


def test_debug_shows_the_libraries_too() -> None:
    assert [line.split(": ")[-1] for line in written_at("DEBUG")] == ["started on 8081", "detail", "chatter", "broker away"]


def test_error_hides_warnings() -> None:
    assert written_at("ERROR") == []
