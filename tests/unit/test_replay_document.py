"""docs/replay.md has every key of a mapping with its default, every option and every mapping that comes along; its example is true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from streams.config import Money
from streams.replay.command import replay
from streams.replay.expanding import VALUE
from streams.replay.mapping import BUNDLED, REQUIRED, FileFormat, Mapping, Time, Unit, load_mapping
from streams.replay.reading import open_source
from streams.replay.sequence import in_file_order
from streams.replay.survey import survey

TEXT = (Path(__file__).parents[2] / "docs" / "replay.md").read_text("utf-8")
#: What the document says of defaults that are no value.
IN_WORDS = {"by the ending", "RFC 3339", "file and row"}


def table(name: str) -> dict[str, list[str]]:
    """The table between `<!-- name -->` and `<!-- /name -->`: first cell, without its marks -> the others."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", TEXT, re.DOTALL)
    assert found is not None, name
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].strip().splitlines()[2:]]
    return {first.strip("`"): rest for first, *rest in rows}


def block(name: str) -> str:
    """The code block that follows `<!-- tested: name -->`."""
    found = re.search(rf"<!-- tested: {re.escape(name)} -->\n```\w*\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None, name
    return found[1]


def inner(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field holds, however wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated, list, dict):
        for part in get_args(annotation):
            yield from inner(part)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key, nested ones with dots. An event's own columns are as those of the whole mapping."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        below = f"{name}.FIELD." if name == "columns" else f"{name}."
        if prefix + name != "events.columns":
            for part in inner(field.annotation):
                yield from keys(part, prefix + below)


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.default
    value = value.value if isinstance(value, Enum) else value
    return f"`{value}`" if value not in (None, "", {}) else ""


def test_the_table_has_every_key_with_its_default() -> None:
    documented = {key: "" if cells[0] in IN_WORDS else cells[0] for key, cells in table("keys").items()}
    assert documented == {key: default(field) for key, field in keys(Mapping)}
    assert all(cells[1].endswith(".") for cells in table("keys").values())


def test_keys_that_take_one_of_a_few_values_name_them() -> None:
    (unit,) = [part for part in get_args(Time.model_fields["unit"].annotation) if get_origin(part) is Literal]
    of: dict[str, Iterable[str]] = {"format": FileFormat, "columns.FIELD.unit": Unit, "events.topic": REQUIRED, "time.unit": get_args(unit)}
    for key, values in of.items():
        assert re.findall(r"`([a-z]+)`", table("keys")[key][1]) == list(values)


def test_the_table_has_every_option() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(replay)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    options = {parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option"}
    assert set(table("options")) == options


def test_the_table_has_the_fields_that_each_topic_needs() -> None:
    documented = {topic: tuple(re.findall(r"`(\w+)`", cells[0])) for topic, cells in table("fields").items()}
    assert documented == {topic.value: fields for topic, fields in REQUIRED.items()}


def test_the_table_has_every_mapping_and_the_columns_that_it_needs() -> None:
    documented = table("mappings")
    assert set(documented) == {path.stem for path in BUNDLED.glob("*.yaml")}
    for name, (_, columns) in documented.items():
        mapping = load_mapping(Path(name))
        # `events.ts` is the field `ts` of the list `events`.
        needed = {part for column in mapping.columns_named() for part in column.split(".")}
        assert set(re.findall(r"`(\w+)`", columns)) == needed, name


def test_the_example_is_true(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(block("orders.csv"), "utf-8")
    mapping = Mapping.model_validate(yaml.safe_load(block("orders.yaml")))
    source = open_source(path, mapping.format, mapping.separator)
    found = survey(Path("orders.yaml"), mapping, [source], Money())
    events = [value for piece in in_file_order(Path("orders.yaml"), mapping, [source], found, 0) for value in piece[VALUE]]
    assert events == block("orders.events").splitlines()
    assert [f"{fault.path.name}:{fault.row}: {fault.what}" for fault in found.faults] == block("orders.faults").splitlines()
