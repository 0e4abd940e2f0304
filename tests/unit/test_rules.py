"""Rules are data: the standard ones hold together, and a bad one is refused with place, key and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alerts.app.feed import check_ladder
from alerts.rules import JudgeName, load_rules
from streams.config import ConfigError, Pane, Settings, Streams, load

ROOT = Path(__file__).resolve().parents[2]


def test_the_standard_rules_are_there_and_inhibitors_come_first() -> None:
    names = [rule.name for rule in load_rules(Settings())]
    assert sorted(names) == ["budget_burn", "budget_exhausted", "conversion_tracking", "pipeline", "traffic"]
    assert names.index("traffic") < min(names.index("budget_burn"), names.index("conversion_tracking"))


def test_an_entry_changes_what_it_names_and_nothing_else() -> None:
    before = {rule.name: rule for rule in load_rules(Settings())}
    after = {rule.name: rule for rule in load_rules(Settings(rules=[{"name": "traffic", "spike": 4}]))}
    assert after["traffic"].spike == 4
    assert after["traffic"].measures == before["traffic"].measures
    assert after["traffic"].version != before["traffic"].version
    assert after["budget_burn"] == before["budget_burn"]


def test_a_rule_can_be_switched_off_and_another_added() -> None:
    own = {"name": "channel_traffic", "judge": "traffic", "cube": "channel", "measures": ["clicks"], "directions": ["drop"]}
    rules = {rule.name: rule for rule in load_rules(Settings(rules=[{"name": "budget_exhausted", "enabled": False}, own]))}
    assert "budget_exhausted" not in rules
    assert rules["channel_traffic"].judge is JudgeName.TRAFFIC
    assert rules["channel_traffic"].cube == "channel"


@pytest.mark.parametrize(
    ("entry", "place", "reason"),
    [
        ({"name": "traffic", "spike": 0.5}, "rules[0].spike", "greater than 1"),
        ({"name": "traffic", "spik": 3}, "rules[0].spik", "unknown key"),
        ({"name": "traffic", "cube": "galaxy"}, "rules[0].cube", "there is no cube 'galaxy'"),
        ({"name": "traffic", "measures": ["clikcs"]}, "rules[0].measures", "there is no exact measure 'clikcs'"),
        ({"name": "traffic", "measures": ["spend"]}, "rules[0].measures", "not a count"),
        ({"name": "traffic", "baseline": {"level_minutes": 7}}, "rules[0].baseline.level_minutes", "multiple of 5"),
        ({"name": "traffic", "windows": [60, 20]}, "rules[0]", "smallest first"),
        (
            {"name": "budget_burn", "burn": [{"long": 60, "short": 60, "factor": 3, "severity": "warning"}]},
            "rules[0].burn.0",
            "less than long",
        ),
        ({"name": "budget_burn", "inhibited_by": [{"rule": "trafic"}]}, "rules[0].inhibited_by.0.rule", "there is no rule 'trafic'"),
        ({"name": "traffic", "inhibited_by": [{"rule": "budget_burn"}]}, "inhibited_by", "circle"),
        ({"name": "mine"}, "rules[0].judge", "must name its judge"),
        ({"name": "mine", "judge": "oracle"}, "rules[0].judge", "budget_burn"),
        ({"judge": "traffic"}, "rules[0].name", "needs a name"),
    ],
)
def test_a_bad_rule_is_refused_with_file_key_and_reason(tmp_path: Path, entry: dict[str, Any], place: str, reason: str) -> None:
    source = tmp_path / "campaignwatch.yaml"
    with pytest.raises(ConfigError) as refused:
        load_rules(Settings(rules=[entry]), source)
    assert str(refused.value).startswith(f"{source}: ")
    assert place in str(refused.value)
    assert reason in str(refused.value)


def test_a_rule_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rules\[1\]\.name: 'traffic' stands there twice"):
        load_rules(Settings(rules=[{"name": "traffic", "spike": 3}, {"name": "traffic", "drop": 0.1}]))


def test_rules_come_from_the_settings_file(tmp_path: Path) -> None:
    source = tmp_path / "campaignwatch.yaml"
    source.write_text("rules:\n  - name: traffic\n    drop: 0.1\n", encoding="utf-8")
    assert next(r for r in load_rules(load(source), source) if r.name == "traffic").drop == 0.1


def test_a_ladder_that_cannot_serve_the_judges_is_refused() -> None:
    check_ladder(Settings())
    coarse = Settings(streams=Streams(ladder=(Pane(size=60, keep=200_000), Pane(size=900, keep=3_000_000))))
    with pytest.raises(ConfigError, match=r"streams\.ladder: .* panes of 10 s"):
        check_ladder(coarse)


def test_the_document_names_every_rule_and_every_field() -> None:
    from alerts.rules.model import BaselineParameters, BreakKind, BurnWindow, Inhibitor, Rule

    document = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    fields = [name for model in (Rule, BaselineParameters, BreakKind, BurnWindow, Inhibitor) for name in model.model_fields]
    missing = [name for name in (*fields, *(r.name for r in load_rules(Settings())), *JudgeName) if f"`{name}`" not in document]
    assert missing == []
