"""The limits of Slack's Block Kit, checked as Slack checks them: what is wrong, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MAX_BLOCKS = 50
#: Undocumented, but enforced: all blocks of a message together.
MAX_ALL_TEXT = 13_200
_BLOCK_ID = 255


def problems(blocks: Any) -> list[str]:
    """What Slack would say of `blocks`, each with a JSON pointer; empty when it would take them."""
    if not isinstance(blocks, list):
        return ["must provide an array [json-pointer:/blocks]"]
    found: list[str] = []
    if len(blocks) > _MAX_BLOCKS:
        found.append(f"no more than {_MAX_BLOCKS} items allowed [json-pointer:/blocks]")
    seen: set[str] = set()
    for i, block in enumerate(blocks):
        at = f"/blocks/{i}"
        if not isinstance(block, dict):
            found.append(f"must be an object [json-pointer:{at}]")
            continue
        block_id = block.get("block_id")
        if block_id is not None:
            found += _length(block_id, f"{at}/block_id", _BLOCK_ID)
            if block_id in seen:
                found.append(f"`block_id` must be unique [json-pointer:{at}/block_id]")
            seen.add(str(block_id))
        check = _CHECKS.get(str(block.get("type")))
        found += check(block, at) if check else [f"unsupported type: {block.get('type')} [json-pointer:{at}/type]"]
    return found


def all_text(blocks: Any) -> int:
    """Characters of all texts in `blocks`."""
    if isinstance(blocks, dict):
        return sum(units(v) if k == "text" and isinstance(v, str) else all_text(v) for k, v in blocks.items())
    return sum(all_text(v) for v in blocks) if isinstance(blocks, list) else 0


def units(text: str) -> int:
    """Length in UTF-16 units, as a JavaScript program counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _length(value: Any, at: str, limit: int) -> list[str]:
    if not isinstance(value, str):
        return [f"must be a string [json-pointer:{at}]"]
    if not value:
        return [f"must be more than 0 characters [json-pointer:{at}]"]
    return [f"must be less than {limit + 1} characters [json-pointer:{at}]"] if units(value) > limit else []


def _text(value: Any, at: str, limit: int, types: tuple[str, ...] = ("plain_text", "mrkdwn")) -> list[str]:
    if not isinstance(value, dict):
        return [f"missing required field: text [json-pointer:{at}]"]
    kind = value.get("type")
    if kind not in types:
        return [f"must be one of {', '.join(types)} [json-pointer:{at}/type]"]
    extra = set(value) - {"type", "text", "emoji" if kind == "plain_text" else "verbatim"}
    return [f"additional property: {name} [json-pointer:{at}]" for name in sorted(extra)] + _length(value.get("text"), f"{at}/text", limit)


def _items(value: Any, at: str, limit: int) -> list[str]:
    if not isinstance(value, list) or not value:
        return [f"must provide at least one item [json-pointer:{at}]"]
    return [f"no more than {limit} items allowed [json-pointer:{at}]"] if len(value) > limit else []


def _header(block: dict[str, Any], at: str) -> list[str]:
    return _text(block.get("text"), f"{at}/text", 150, ("plain_text",))


def _section(block: dict[str, Any], at: str) -> list[str]:
    if "text" not in block and "fields" not in block:
        return [f"missing required field: text [json-pointer:{at}]"]
    found = _text(block["text"], f"{at}/text", 3_000) if "text" in block else []
    if "fields" in block:
        found += _items(block["fields"], f"{at}/fields", 10)
        if isinstance(block["fields"], list):
            found += [p for i, field in enumerate(block["fields"]) for p in _text(field, f"{at}/fields/{i}", 2_000)]
    return found


def _context(block: dict[str, Any], at: str) -> list[str]:
    elements = block.get("elements")
    found = _items(elements, f"{at}/elements", 10)
    for i, element in enumerate(elements if isinstance(elements, list) else []):
        here = f"{at}/elements/{i}"
        is_image = isinstance(element, dict) and element.get("type") == "image"
        found += _image(element, here) if is_image else _text(element, here, 3_000)
    return found


def _actions(block: dict[str, Any], at: str) -> list[str]:
    elements = block.get("elements")
    found = _items(elements, f"{at}/elements", 25)
    for i, element in enumerate(elements if isinstance(elements, list) else []):
        here = f"{at}/elements/{i}"
        if not isinstance(element, dict) or element.get("type") != "button":
            found.append(f"unsupported type [json-pointer:{here}/type]")
            continue
        found += _text(element.get("text"), f"{here}/text", 75, ("plain_text",))
        for name, limit in (("url", 3_000), ("value", 2_000), ("action_id", 255)):
            if name in element:
                found += _length(element[name], f"{here}/{name}", limit)
    return found


def _image(block: dict[str, Any], at: str) -> list[str]:
    return _length(block.get("image_url"), f"{at}/image_url", 3_000) + _length(block.get("alt_text"), f"{at}/alt_text", 2_000)


def _divider(block: dict[str, Any], at: str) -> list[str]:
    return []


_CHECKS: dict[str, Callable[[dict[str, Any], str], list[str]]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "image": _image,
    "divider": _divider,
}
