"""Loading the rules: the standard ones, changed and extended by the settings."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alerts.rules.model import PIPELINE, JudgeName, Rule
from streams.config import ENV_PREFIX, ConfigError, Settings
from streams.kpis.measures import MEASURES, Unit, is_exact, unit_of


def standard_rules() -> list[dict[str, Any]]:
    """The rules that come with Campaignwatch, as plain data."""
    text = resources.files("alerts.rules").joinpath("defaults.yaml").read_text(encoding="utf-8")
    content: list[dict[str, Any]] = yaml.safe_load(text)
    return content


def load_rules(settings: Settings, source: Path | None = None) -> tuple[Rule, ...]:
    """The enabled rules, inhibiting ones before those that they inhibit.

    An entry of `settings.rules` with a standard rule's name changes the fields that it names; another name makes a new rule.
    Raises ConfigError that names the source, the entry, the key and the reason.
    """
    where = str(source) if source is not None else f"{ENV_PREFIX}RULES or the settings file"
    merged: dict[str, dict[str, Any]] = {rule["name"]: rule for rule in standard_rules()}
    seen: set[str] = set()
    origin: dict[str, str] = {}
    for index, entry in enumerate(settings.rules):
        name = entry.get("name")
        place = f"rules[{index}]"
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{where}: {place}.name: every rule needs a name; the standard ones are {', '.join(merged)}")
        if name in seen:
            raise ConfigError(f"{where}: {place}.name: {name!r} stands there twice; put everything about a rule into one entry")
        if name not in merged and "judge" not in entry:
            raise ConfigError(
                f"{where}: {place}.judge: {name!r} is no standard rule ({', '.join(merged)}), so it must name its judge:"
                f" {', '.join(JudgeName)}"
            )
        seen.add(name)
        origin[name] = place
        merged[name] = {**merged.get(name, {}), **entry}
    rules = {}
    for name, content in merged.items():
        place = origin.get(name, f"standard rule {name}")
        rules[name] = _checked(content, f"{where}: {place}", settings)
    for rule in rules.values():
        for number, inhibitor in enumerate(rule.inhibited_by):
            if inhibitor.rule not in rules:
                raise ConfigError(
                    f"{where}: {origin.get(rule.name, f'standard rule {rule.name}')}.inhibited_by.{number}.rule: there is no rule"
                    f" {inhibitor.rule!r}; there are {', '.join(rules)}"
                )
    return tuple(_in_order(list(rules.values()), where))


def _checked(content: dict[str, Any], place: str, settings: Settings) -> Rule:
    try:
        rule = Rule.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            reason = f"unknown key; a rule has {', '.join(Rule.model_fields)}"
        raise ConfigError(f"{place}{'.' if key else ': '}{key}{': ' if key else ''}{reason}") from error
    if rule.cube not in (*settings.all_cubes, PIPELINE):
        raise ConfigError(f"{place}.cube: there is no cube {rule.cube!r}; there are {', '.join(settings.all_cubes)}")
    for measure in rule.measures:
        if not is_exact(measure):
            raise ConfigError(
                f"{place}.measures: there is no exact measure {measure!r}; there are {', '.join(MEASURES)} and kinds of your own"
            )
        if unit_of(measure) is not Unit.COUNT:
            raise ConfigError(f"{place}.measures: {measure} is not a count ({unit_of(measure).value}); the traffic judge judges counts")
    return rule


def _in_order(rules: Sequence[Rule], where: str) -> list[Rule]:
    """Inhibitors first. ConfigError when rules inhibit each other in a circle."""
    waiting = {rule.name: rule for rule in rules}
    ordered: list[Rule] = []
    while waiting:
        free = [r for r in waiting.values() if not any(i.rule in waiting for i in r.inhibited_by)]
        if not free:
            raise ConfigError(f"{where}: inhibited_by: {', '.join(waiting)} inhibit each other in a circle; take one line out")
        for rule in free:
            ordered.append(rule)
            del waiting[rule.name]
    return [rule for rule in ordered if rule.enabled]
