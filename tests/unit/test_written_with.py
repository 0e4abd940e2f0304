"""Which settings say what stored tables mean, and what is said when they are others than before."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import SecretStr

from streams.config import Money, Pane, Privacy, Settings, SpendSource, Streams
from streams.ingest.continuity import Break
from streams.ingest.written_with import settings_changed, written_with

BEFORE = Settings(money=Money(rates={"EUR": Decimal("1.10"), "GBP": Decimal("1.3")}))
KEY = "a key that nobody may see"


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("streams.ladder", {"streams": Streams(ladder=(*BEFORE.streams.ladder[:-1], Pane(size=86_400, keep=86_400 * 500)))}),
        ("cubes", {"cubes": {"keyword": ("campaign_id", "keyword")}}),
        ("money.reporting_currency", {"money": Money(reporting_currency="CHF", rates=BEFORE.money.rates)}),
        ("money.rates", {"money": Money(rates={"EUR": Decimal("1.11"), "GBP": Decimal("1.3")})}),
        ("money.spend_sources", {"money": Money(rates=BEFORE.money.rates, spend_sources={"meta": SpendSource.REPORTS})}),
        ("privacy.user_key", {"privacy": Privacy(user_key=SecretStr(KEY))}),
    ],
)
def test_each_setting_that_changes_what_numbers_mean_is_named(name: str, section: dict[str, object]) -> None:
    after = BEFORE.model_copy(update=section)
    (finding,) = settings_changed(written_with(BEFORE), written_with(after), 7)
    assert (finding.kind, finding.records) == (Break.SETTINGS_CHANGED, 7)
    assert finding.detail.startswith(f"the tables were written with other settings: {name} (was ")
    assert finding.detail.count("(was ") == 1


def test_the_same_meaning_written_otherwise_is_no_change() -> None:
    same = BEFORE.model_copy(update={"money": Money(rates={"GBP": Decimal("1.300"), "EUR": Decimal("1.1")})})
    assert written_with(same) == written_with(BEFORE)
    assert settings_changed(written_with(BEFORE), written_with(same), 7) == []


def test_tables_without_records_or_of_a_version_that_kept_no_settings_have_nothing_to_mix() -> None:
    after = written_with(BEFORE.model_copy(update={"money": Money()}))
    assert settings_changed(written_with(BEFORE), after, 0) == []
    assert settings_changed({}, after, 7) == []
    assert settings_changed({"of.another.version": "1"}, after, 7) == []


def test_no_key_is_stored_or_told() -> None:
    after = BEFORE.model_copy(update={"privacy": Privacy(user_key=SecretStr(KEY))})
    (finding,) = settings_changed(written_with(BEFORE), written_with(after), 7)
    assert KEY not in finding.detail + "".join(written_with(after).values())
