"""Which records of the quarantine topic hold a user's id."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence

from streams.config import Settings
from streams.quarantine.reading import read
from streams.quarantine.record import Coordinates, Quarantined


async def holding(settings: Settings, users: Sequence[str]) -> AsyncIterator[Coordinates]:
    """The coordinates, each once, of quarantined records in whose key or value one of the ids stands. Raises as `read` does."""
    forms = sorted({form for user in users for form in written(user)})
    seen: set[Coordinates] = set()
    async for found in read(settings):
        if found.refused is not None and found.refused.coordinates not in seen and holds(found.refused, forms):
            seen.add(found.refused.coordinates)
            yield found.refused.coordinates


def holds(refused: Quarantined, forms: Iterable[bytes]) -> bool:
    """Whether one of the forms stands in the bytes of a refused record. A short id stands in longer ones too, which are found with it."""
    content = (refused.key or b"", refused.value or b"")
    return any(form in part for form in forms for part in content)


def written(user: str) -> set[bytes]:
    """How an id may stand in a record: as it is, and as the usual writers of JSON write it, with and without escapes."""
    escaped = json.dumps(user)[1:-1]
    capital = re.sub(r"(?<=\\u)[0-9a-f]{4}", lambda digits: digits[0].upper(), escaped)
    forms = {user, escaped, capital, escaped.replace("/", "\\/"), json.dumps(user, ensure_ascii=False)[1:-1]}
    return {form.encode("utf-8", "surrogatepass") for form in forms}
