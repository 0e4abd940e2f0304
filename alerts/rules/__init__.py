"""Alert rules: what is judged, how strictly and how severe it is, declared as data."""

from alerts.rules.load import load_rules
from alerts.rules.model import JudgeName, Rule

__all__ = ["JudgeName", "Rule", "load_rules"]
