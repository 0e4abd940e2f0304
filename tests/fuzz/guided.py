"""The same targets under atheris (libFuzzer): payloads are kept and spoilt further when they reach code that none had reached before."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import typer

from tests.fuzz.payloads import mangled
from tests.fuzz.targets import Target
from tests.unit.hostile_events import Sent


def run(targets: Sequence[Target], payloads: int, seed: int) -> None:
    """Give `payloads` to the targets in turn of their first byte. Does not return: libFuzzer ends the process, with 77 for a failure."""
    try:
        import atheris
    except ImportError:
        typer.echo("--coverage needs atheris, which comes as a wheel for Linux on x86-64: pip install atheris", err=True)
        raise typer.Exit(2) from None
    atheris.instrument_all()

    def judge(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)].judge([Sent(data[1:], b"c-1")])

    def spoil(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        at = chance.randrange(len(targets))
        if len(data) < 10 or chance.random() < 0.3:
            value = targets[at].make(chance).value or b""
            return (bytes([at]) + value)[:most]
        if chance.random() < 0.5:
            return (data[:1] + mangled(chance, data[1:]))[:most]
        return bytes(atheris.Mutate(data, len(data)))[:most]

    atheris.Setup(
        [sys.argv[0], f"-runs={payloads}", f"-seed={seed}", "-max_len=70000", "-print_final_stats=1"], judge, custom_mutator=spoil
    )
    atheris.Fuzz()
