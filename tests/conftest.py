"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing: a loop is compiled when it first runs, and machines differ.
settings.register_profile("campaignwatch", deadline=None)
settings.load_profile("campaignwatch")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    """Tests see the defaults, whatever the developer's shell has exported."""
    kept = {"CAMPAIGNWATCH_DATA", "CAMPAIGNWATCH_TEST_KAFKA"}
    for name in [name for name in os.environ if name.startswith("CAMPAIGNWATCH_") and name not in kept]:
        del os.environ[name]


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The directory of recorded marketing data: CAMPAIGNWATCH_DATA, else shared/data beside the clone. Skips when there is none."""
    named = os.environ.get("CAMPAIGNWATCH_DATA")
    places = [Path(named)] if named else [ROOT.parent / "shared" / "data"]
    for place in places:
        if place.is_dir():
            return place
    pytest.skip(f"no recorded data: {', '.join(map(str, places))} is not there; set CAMPAIGNWATCH_DATA to its directory")
