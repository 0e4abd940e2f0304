"""Which rows `where` selects: by dimensions of the cube, which the tables do, and by attributes of the registry, which is done here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.api.query import BadQuery, Condition
from streams.tables.reader import TableReader
from streams.tables.windows import Registered, RowKey

#: Attributes of the registry that rows of cubes by campaign may be selected by; `labels.team:north` for labels that have values.
ATTRIBUTES = ("name", "owner", "account_id", "channel", "platform", "time_zone", "currency", "pacing", "starts_on", "ends_on", "labels")
_LABELS = "labels."


@dataclass(frozen=True, slots=True)
class Selection:
    """What `where` comes to: dimensions that the tables select by, and what is left to do on the rows."""

    where: Mapping[str, str | None]
    #: Two conditions that exclude each other.
    nothing: bool
    #: Position of campaign_id in a row's key, and the campaigns that have the wanted attributes; or those that lack them.
    at: int | None = None
    ids: frozenset[str] = frozenset()
    ids_are_excluded: bool = False

    def positions(self, keys: Sequence[RowKey]) -> NDArray[np.int64]:
        """Positions of the rows that are selected."""
        if self.nothing:
            return np.empty(0, np.int64)
        at = self.at
        if at is None:
            return np.arange(len(keys), dtype=np.int64)
        return np.array([i for i, key in enumerate(keys) if (key[at] in self.ids) != self.ids_are_excluded], np.int64)


async def selection_of(where: Sequence[Condition], dimensions: tuple[str, ...], reader: TableReader) -> Selection:
    """What `where` comes to for a cube of these dimensions. BadQuery for one that it does not have."""
    by_dimension: dict[str, str | None] = {}
    nothing = False
    attributes: list[Condition] = []
    for condition in where:
        if condition.name in dimensions:
            nothing |= by_dimension.setdefault(condition.name, condition.value) != condition.value
        elif "campaign_id" in dimensions and (condition.name in ATTRIBUTES or condition.name.startswith(_LABELS)):
            attributes.append(condition)
        else:
            there_is = list(dimensions)
            if "campaign_id" in dimensions:
                there_is += [*(name for name in ATTRIBUTES if name not in dimensions), f"{_LABELS}<label>"]
            hint = f"there are: {', '.join(there_is)}" if there_is else "this cube has a single row and no dimension"
            raise BadQuery(f"where: unknown dimension {condition.name!r}", hint)
    if not attributes:
        return Selection(by_dimension, nothing)
    registry = await reader.campaigns()
    fits = {cid for cid, campaign in registry.items() if all(has_attribute(campaign, c) for c in attributes)}
    at = dimensions.index("campaign_id")
    if all(condition.value is None for condition in attributes):
        # A campaign that nobody registered has no attributes either.
        return Selection(by_dimension, nothing, at, frozenset(registry.keys() - fits), ids_are_excluded=True)
    if len(fits) == 1 and "campaign_id" not in by_dimension:
        by_dimension["campaign_id"] = next(iter(fits))
    return Selection(by_dimension, nothing or not fits, at, frozenset(fits))


def has_attribute(campaign: Registered, condition: Condition) -> bool:
    """Whether a registered campaign fulfils a condition on `ATTRIBUTES` or `labels.NAME`; a list of labels if one of them does."""
    name, wanted = condition.name, condition.value
    if name.startswith(_LABELS):
        labels = campaign.get("labels")
        value = labels.get(name.removeprefix(_LABELS)) if isinstance(labels, dict) else None
    else:
        value = campaign.get(name)
    if isinstance(value, list | tuple | dict):
        return wanted in value if wanted is not None else not value
    return (None if value is None or value == "" else str(value)) == wanted
