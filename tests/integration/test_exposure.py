"""A process that would show its pages to the network without a login does not start, and says what to set."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.config import Alerts, Settings, Streams
from tests.integration.processes import run, settings_file


@pytest.mark.parametrize("role", ["streams", "alerts"])
def test_pages_are_not_shown_to_the_network_by_accident(role: str, ready: Settings, tmp_path: Path) -> None:
    open_to_all = {"streams": Streams(http_host="0.0.0.0", http_port=0), "alerts": Alerts(http_host="0.0.0.0", http_port=0)}
    done = run(settings_file(tmp_path, ready.model_copy(update=open_to_all)), role, timeout=60)
    assert done.returncode == 2, done.stderr
    assert (
        "campaignwatch: the HTTP pages would be open to everybody who reaches 0.0.0.0: set a token (CAMPAIGNWATCH_HTTP__TOKEN"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
