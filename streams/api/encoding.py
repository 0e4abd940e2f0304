"""JSON as the pages write it: decimals as number literals with all their digits, which a double could not carry."""

from __future__ import annotations

from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="number")


def encode(content: Any) -> bytes:
    """UTF-8 JSON of `content`; Decimals become JSON numbers, digit by digit."""
    return _ENCODER.encode(content)
