"""The command line `campaignwatch`: one table of commands, each loaded when it is called.

A command is a plain function with typer's annotations that stands in the module of what it does. `--help` imports none of them,
so that it answers at once; `COMMANDS` therefore repeats the first sentence of each.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from streams.errors import UserError


@dataclass(frozen=True)
class Entry:
    """A command: its words on the command line, where its function is, and what the list of commands says of it."""

    words: str
    target: str
    """`module:function`."""
    summary: str


#: In the order in which `--help` lists them.
COMMANDS = (
    Entry(
        "demo",
        "alerts.demo.command:demo",
        "Run everything on this machine for ten minutes: broker, Redis, workers, a marketing day, four faults and their alerts.",
    ),
    Entry("topics create", "streams.topics:topics_create", "Create the Kafka topics that are missing."),
    Entry(
        "streams",
        "streams.app.command:streams",
        "Run a streams worker: it reads the topics' partitions that Kafka gives it and keeps their KPI tables in Redis.",
    ),
    Entry("alerts", "alerts.app.command:alerts", "Judge the tables, keep the incidents and deliver them."),
    Entry(
        "doctor", "alerts.doctor.command:doctor", "Say what is wrong with broker, topics, Redis, tables, lag and alerts, and what to do."
    ),
    Entry(
        "plan",
        "streams.planning.command:plan",
        "Say how many partitions, workers and Redis masters a load needs, how much memory and disk, and by which arithmetic.",
    ),
    Entry("kpis", "streams.api.cli:kpis", "Show the KPIs of campaigns, channels, ... over a window."),
    Entry("campaigns apply", "streams.campaigns:campaigns_apply", "Publish campaigns to the registry: names, owners, budgets, targets."),
    Entry("quarantine list", "streams.quarantine.commands:quarantine_list", "List refused records, newest last"),
    Entry(
        "quarantine show",
        "streams.quarantine.commands:quarantine_show",
        "Show one refused record: where it came from, what is wrong with it, and its content.",
    ),
    Entry(
        "quarantine replay",
        "streams.quarantine.commands:quarantine_replay",
        "Send refused records back to their topic, once what they were refused for is repaired",
    ),
    Entry(
        "privacy erase",
        "streams.privacy.command:privacy_erase",
        "Erase users: out of `reach` in every table, and no event from before this moment brings them back.",
    ),
    Entry(
        "rebuild",
        "streams.rebuild.command:rebuild_tables",
        "Build the KPI tables anew from the log, beside those in use, and switch over.",
    ),
    Entry("replay", "streams.replay.command:replay", "Play recorded data as events: your own history, or a sample."),
    Entry(
        "validate", "streams.events.validating:validate", "Check a file of events as the workers will, and say what is wrong, line by line."
    ),
    Entry("schema", "streams.events.schema:print_schema", "Print the JSON Schema of a topic, or an AsyncAPI document of all topics."),
    Entry("produce", "streams.simulate.command:produce", "Play a simulated marketing day to Kafka: campaigns, clicks, conversions, spend."),
)

#: Commands of two words are gathered under their first.
GROUPS = {
    "topics": "The Kafka topics.",
    "campaigns": "The registry of campaigns.",
    "quarantine": "Records that were refused, with the reason.",
    "privacy": "Personal data.",
}


class LazyCommand(TyperCommand):
    """Stands in for a command in the lists and loads it when it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.summary)
        self.entry = entry

    def load(self) -> Any:
        """The command itself, made from its function."""
        module, _, function = self.entry.target.partition(":")
        single = typer.Typer(add_completion=False)
        single.command(self.name)(getattr(importlib.import_module(module), function))
        return typer.main.get_command(single)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """What is parsed and invoked is the command itself."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


def build() -> TyperGroup:
    """The whole command line."""
    root = typer.Typer(name="campaignwatch", no_args_is_help=True, add_completion=False)
    root.callback()(_root)
    command = typer.main.get_command(root)
    assert isinstance(command, TyperGroup)
    for entry in COMMANDS:
        first, _, second = entry.words.partition(" ")
        if not second:
            command.add_command(LazyCommand(first, entry))
            continue
        group = command.commands.get(first)
        if group is None:
            group = TyperGroup(name=first, help=GROUPS[first], no_args_is_help=True)
            command.add_command(group)
        assert isinstance(group, TyperGroup)
        group.add_command(LazyCommand(second, entry))
    return command


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 the answer is no, 2 it could not be done and standard error says why."""
    # What Kafka's client finds wrong is raised in the end. Where nobody has set up logging, its words on every attempt would only stand in
    # the way of a progress bar and of the command's own sentence.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        build().main(prog_name="campaignwatch")
    except UserError as error:
        typer.echo(f"campaignwatch: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"campaignwatch {version('campaignwatch')}")
        raise typer.Exit


def _root(
    _asked: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)] = False,
) -> None:
    """Real-time monitor of marketing campaigns: exact KPIs from Kafka, and an alert within a minute or two."""


if __name__ == "__main__":
    main()
