"""The settings that say what stored tables mean, kept with them: a worker that has others goes on, and says so. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from streams.config import Settings
from streams.ingest.continuity import Break, Finding

_LONGEST_SHOWN = 200


def written_with(settings: Settings) -> dict[str, str]:
    """Setting -> its value as text, the same for values that mean the same. Of a secret a digest that is keyed by it."""
    money = settings.money
    secret = hashlib.blake2b(settings.privacy.user_key.get_secret_value().encode(), digest_size=32).digest()
    return {
        "streams.ladder": _text([[pane.size, pane.keep] for pane in settings.streams.ladder]),
        "cubes": _text({name: list(dimensions) for name, dimensions in settings.all_cubes.items()}),
        "money.reporting_currency": money.reporting_currency,
        "money.rates": _text({currency: f"{rate.normalize():f}" for currency, rate in money.rates.items()}),
        "money.spend_sources": _text({platform: source.value for platform, source in money.spend_sources.items()}),
        "privacy.user_key": "digest " + hashlib.blake2b(b"written with this key", digest_size=8, key=secret).hexdigest(),
    }


def settings_changed(stored: Mapping[str, str], now: Mapping[str, str], records: int) -> list[Finding]:
    """The break there is when tables that hold `records` records were written with the settings `stored` and go on with others.

    Settings that the tables name none of, or that are unknown now, are no change: another version knows others.
    """
    changed = [f"{name} (was {_short(stored[name])}, is {_short(now[name])})" for name in now if stored.get(name, now[name]) != now[name]]
    if not changed or not records:
        return []
    detail = (
        f"the tables were written with other settings: {'; '.join(changed)}; what is stored stays as it was counted. Set them back if that "
        "was not meant; `campaignwatch rebuild` counts all of the log with the settings of now"
    )
    return [Finding(Break.SETTINGS_CHANGED, records, detail)]


def kept_then(stored: Mapping[str, str]) -> float:
    """For how many ms tables that were written with the settings `stored` have kept things; infinite where they do not say."""
    ladder = json.loads(stored.get("streams.ladder", "[]"))
    return max((keep * 1_000 for _, keep in ladder), default=float("inf"))


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + " ..."
