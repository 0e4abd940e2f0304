"""The arbiter: what one record of a topic says, or why it is refused. Slow, exact, and the last word.

`streams.ingest.decode` is the fast way to the same answers and asks here whenever it is not sure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streams.config import Money, Topic
from streams.events.fields import CONTROL_CHARACTER
from streams.events.json_text import Number, read_object
from streams.events.models import MODELS, PERSONAL_FIELDS, Campaign, Click, Conversion, Engagement, Event, Spend
from streams.events.money import Exchange, decimal_text, to_micros
from streams.events.refusal import Reason, Refusal

#: Topics whose records must be keyed by their campaign_id.
KEYED_TOPICS = (Topic.SPEND, Topic.CAMPAIGNS)
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Deletion:
    """A record of the registry that deletes a campaign."""

    campaign_id: str


Parsed = Click | Conversion | Engagement | Spend | Campaign | Deletion


def parse(topic: Topic, value: bytes | None, key: bytes | None, money: Money) -> Parsed:
    """The record's content, as the model of its topic; a null value on campaigns is a `Deletion`.

    Raises Refusal with the reason's code and, in words, the field, what came and what is expected. Personal data is not shown. When
    several things are wrong the first of these counts: the value's size and form, missing fields, invalid fields, the currency, the key.
    Not judged here: future and lateness, duplicates.
    """
    if value is None:
        if topic is Topic.CAMPAIGNS:
            return Deletion(_campaign_of_key(key))
        raise Refusal(Reason.EMPTY, f"the record has no value; {topic.value} are events and cannot be deleted")
    content = read_object(value)
    try:
        record = MODELS[topic].model_validate(content)
    except ValidationError as error:
        raise _refusal(error) from None
    if isinstance(record, Campaign):
        if record.currency is not None:
            Exchange(money).ratio(record.currency)
    else:
        reporting_micros(record, Exchange(money))
    if topic in KEYED_TOPICS:
        _check_key(key, record.campaign_id)
    assert isinstance(record, Click | Conversion | Engagement | Spend | Campaign)
    return record


def reporting_micros(event: Event, exchange: Exchange) -> int:
    """The event's cost, value or amount in micros of the reporting currency. Raises Refusal as `Exchange.reporting_micros`."""
    match event:
        case Click() | Engagement():
            return exchange.reporting_micros(to_micros(event.cost), event.currency)
        case Conversion():
            return exchange.reporting_micros(to_micros(event.value), event.currency)
        case Spend():
            return exchange.reporting_micros(to_micros(event.amount), event.currency)
    raise TypeError(f"{type(event).__name__} carries no money")


def registered(campaign: Campaign) -> dict[str, Any]:
    """The campaign ready for JSON: money and weights as decimal strings, dates as YYYY-MM-DD, absent fields left out."""
    return {name: _plain(getattr(campaign, name)) for name in Campaign.model_fields if getattr(campaign, name) is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, BaseModel):
        return {name: _plain(part) for name, part in value if part is not None}
    if isinstance(value, dict):
        return {_plain(name): _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _campaign_of_key(key: bytes | None) -> str:
    """The campaign that a record without a value deletes."""
    expected = "to delete a campaign its record must be keyed by the campaign_id: 1 to 128 characters of UTF-8, none a control character"
    try:
        campaign_id = (key or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(Reason.WRONG_KEY, f"key: got {_key_text(key)}, not UTF-8; {expected}") from error
    if not 1 <= len(campaign_id) <= 128 or CONTROL_CHARACTER.search(campaign_id):
        raise Refusal(Reason.WRONG_KEY, f"key: got {_key_text(key)}; {expected}")
    return campaign_id


def _check_key(key: bytes | None, campaign_id: str) -> None:
    if key != campaign_id.encode("utf-8"):
        raise Refusal(Reason.WRONG_KEY, f"key: got {_key_text(key)}, expected the record's campaign_id, {described(campaign_id)}")


def _key_text(key: bytes | None) -> str:
    # Not its words: what a producer keys by, by mistake, may be a person's id. Quarantine keeps the key itself.
    return "none" if not key else f"one of {len(key)} bytes"


def described(value: Any) -> str:
    """A JSON value in a few words, safe to print: short, and no character that a terminal would act on."""
    if isinstance(value, Number):
        return _shortened(value.text)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        start = value[:_SHOWN_CHARACTERS]
        safe = "".join(
            c if c.isprintable() and c not in '"\\' else c.encode("unicode_escape").decode() if c != '"' else '\\"' for c in start
        )
        return f'"{safe}"' if len(value) <= _SHOWN_CHARACTERS else f'"{safe}..." ({len(value)} characters)'
    if isinstance(value, list | tuple):
        return "an array"
    return "an object" if isinstance(value, dict) else _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} digits)"


def _refusal(error: ValidationError) -> Refusal:
    """One refusal for all that a model found wrong; missing fields come first and give the reason."""
    found = error.errors(include_url=False)
    missing = [e for e in found if e["type"] == "missing"]
    reason = Reason.MISSING_FIELD if missing else Reason.INVALID_FIELD
    details = [_missing(e) for e in missing] + [_invalid(e) for e in found if e["type"] != "missing"]
    return Refusal(reason, "; ".join(details))


def _missing(error: ErrorDetails) -> str:
    return f"{_path(error['loc'])}: required, but absent, null or empty"


def _invalid(error: ErrorDetails) -> str:
    path = _path(error["loc"])
    said = error.get("ctx", {}).get("error")
    if not path:
        return str(said)
    expected = str(said) if said is not None else "expected an object"
    came = described(error["input"])
    if path in PERSONAL_FIELDS:
        came = f"a string of {len(error['input'])} characters" if isinstance(error["input"], str) else "something else"
    return f"{path}: got {came}; {expected}"


def _path(loc: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in loc)
