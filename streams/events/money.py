"""Exact decimal numbers from their text, and money turned into the reporting currency. No floats anywhere."""

from __future__ import annotations

import re
from decimal import Decimal

from streams.config import Money
from streams.events.refusal import Reason, Refusal

#: Most of its own currency that one amount may be, and decimal places that are kept.
MAX_AMOUNT = 1_000_000_000
PLACES = 6
MICRO = 10**PLACES
#: Most micros of the reporting currency that one event may be; sums beyond it would leave 64 bits.
MAX_MICROS = 9_000_000_000_000 * MICRO

#: A decimal string: digits, optional fraction; also published in the JSON Schema.
DECIMAL_STRING = r"[0-9]+(\.[0-9]+)?"

_DECIMAL_STRING = re.compile(DECIMAL_STRING)
_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)0*([0-9]+))?")


class NotInRange(ValueError):
    """A number below 0 or above the most that is taken."""


def scaled(text: str, places: int, most: int) -> int:
    """The JSON number `text` times 10**places, rounded half-even, for numbers from 0 to `most` (a power of ten).

    Works on the digits, so that neither a long fraction nor an absurd exponent is lost or costs anything.
    Raises ValueError when it is no number, NotInRange when the number as written is out of range.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    minus, whole, fraction, exponent_sign, exponent_text = match.groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0
    if minus:
        raise NotInRange(text)
    # Beyond 9 digits an exponent decides by its sign alone: at most 65,536 digits stand against it.
    exponent = 10**9 if exponent_text and len(exponent_text) > 9 else int(exponent_text or 0)
    exponent = (-exponent if exponent_sign == "-" else exponent) - len(fraction)
    # most is 1 followed by zeros, so it has one digit more than any smaller number has before its point.
    before_point, limit = len(digits) + exponent, len(str(most))
    if before_point > limit or (before_point == limit and digits.rstrip("0") != "1"):
        raise NotInRange(text)
    kept = before_point + places
    if kept < 0:
        return 0
    head, rest = digits[:kept].ljust(kept, "0"), digits[kept:].rstrip("0")
    result = int(head or "0")
    if rest > "5" or (rest == "5" and result % 2):
        result += 1
    return result


def micros_of_number(text: str) -> int:
    """Micros of an amount given as a JSON number's text. Raises as `scaled`."""
    return scaled(text, PLACES, MAX_AMOUNT)


def micros_of_string(text: str) -> int:
    """Micros of an amount given as a decimal string: no sign, exponent or blanks. Raises as `scaled`."""
    if not _DECIMAL_STRING.fullmatch(text):
        raise ValueError(text)
    return scaled(text, PLACES, MAX_AMOUNT)


def to_decimal(micros: int) -> Decimal:
    """Units of micros, exact."""
    return Decimal(micros).scaleb(-PLACES)


def to_micros(amount: Decimal) -> int:
    """Micros of units that have at most six decimals."""
    return int(amount.scaleb(PLACES))


def decimal_text(amount: Decimal) -> str:
    """The amount as a decimal string without trailing zeros: "0.42", "10"."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Exchange:
    """Turns micros of any currency that has a rate into micros of the reporting currency."""

    def __init__(self, money: Money) -> None:
        self._money = money
        self._ratios: dict[str, tuple[int, int]] = {money.reporting_currency: (1, 1)}

    def ratio(self, currency: str) -> tuple[int, int]:
        """Reporting currency per unit, as numerator and denominator. Raises Refusal unknown_currency."""
        known = self._ratios.get(currency)
        if known is None:
            rate = self._money.rates.get(currency)
            if rate is None:
                raise Refusal(
                    Reason.UNKNOWN_CURRENCY,
                    f"currency: there is no rate for {currency}; expected {' or '.join(self.known())}, "
                    f"or add {currency} to money.rates of the installation",
                )
            known = self._ratios[currency] = rate.as_integer_ratio()
        return known

    def known(self) -> list[str]:
        """The currencies that are taken, the reporting currency first."""
        reporting = self._money.reporting_currency
        return [reporting, *sorted(c for c in self._money.rates if c != reporting)]

    def reporting_micros(self, micros: int, currency: str | None) -> int:
        """`micros` of `currency` (None: the reporting currency) in micros of the reporting currency, rounded half-even.

        Raises Refusal: unknown_currency, also for 0; invalid_field when the result is beyond what sums are exact for.
        """
        if currency is None:
            return micros
        numerator, denominator = self.ratio(currency)
        result = half_even(micros * numerator, denominator)
        if result > MAX_MICROS:
            raise Refusal(
                Reason.INVALID_FIELD,
                f"currency: the amount is {decimal_text(to_decimal(result))} {self._money.reporting_currency}; "
                f"expected at most {MAX_MICROS // MICRO} after conversion",
            )
        return result


def half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator (both >= 0), rounded to the nearest integer, halves to the even one."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))
