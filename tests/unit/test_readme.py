"""What the documents say can be done: the commands exist, the links lead somewhere, the table of settings is that of the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.cli import COMMANDS
from streams import config_table
from streams.replay.mapping import load_mapping

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def readme_block(name: str) -> str:
    """The code block of the README that follows `<!-- tested: name -->`."""
    found = re.search(rf"<!-- tested: {re.escape(name)} -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found is not None, name
    return found[1]


def anchors(document: Path) -> set[str]:
    """Anchors of a document's headings, as Git forges make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith(("http://", "https://")):
                yield document, target


def test_the_table_of_settings_is_made_from_the_settings() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert config_table.inserted(text) == text, "run: python -m streams.config_table README.md"


def test_every_setting_says_what_it_does() -> None:
    rows = list(config_table.settings())
    assert len({row.key for row in rows}) == len(rows)
    assert {"kafka.topic_prefix", "streams.ladder", "slack.bot_token", "log_level"} <= {row.key for row in rows}
    for row in rows:
        assert row.meaning.endswith("."), row.key
        assert row.variable == "CAMPAIGNWATCH_" + row.key.replace(".", "__").upper()


def test_the_table_shows_no_secret() -> None:
    secrets = {row.key: row.default for row in config_table.settings() if row.key in ("privacy.user_key", "slack.bot_token")}
    assert secrets == {"privacy.user_key": "", "slack.bot_token": ""}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_is_named_exists(document: Path) -> None:
    known = {entry.words for entry in COMMANDS}
    code = re.findall(r"```.*?```|`[^`\n]+`", document.read_text("utf-8"), re.DOTALL)
    for words in re.findall(r"\bcampaignwatch ([a-z]+(?: [a-z]+)?)", "\n".join(code)):
        assert {words, words.split()[0]} & known, f"campaignwatch {words}"


def test_every_link_leads_somewhere() -> None:
    for document, target in links():
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{document.name}: {target}"


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:streams|alerts|grafana|tests)/[\w./]+)`", text)
    assert len(named) > 50
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_room_of_the_code_is_on_the_map() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    rooms = {str(path.parent.relative_to(ROOT)) for package in ("streams", "alerts") for path in (ROOT / package).rglob("*.py")}
    assert sorted(room for room in rooms if f"`{room}" not in text and "/" in room) == []


def test_the_readme_names_the_two_commands() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks[:2] == ["make demo\n", "make test\n"]


def test_the_mapping_in_the_readme_fits_the_report_in_the_readme(tmp_path: Path) -> None:
    (tmp_path / "history.yaml").write_text(readme_block("history.yaml"), "utf-8")
    header = readme_block("history.csv").splitlines()[0].split(",")
    mapping = load_mapping(tmp_path / "history.yaml")
    assert set(mapping.columns_named()) <= set(header)
    assert [event.topic.value for event in mapping.events] == ["engagements", "clicks", "spend"]
