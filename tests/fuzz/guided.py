"""The pure targets under atheris (libFuzzer): payloads are kept and spoilt further when they reach code that none had reached before.

A program of its own, since code is instrumented while it is imported: `python -m tests.fuzz.guided PAYLOADS SEED`.
"""

from __future__ import annotations

import random
import sys


def main(payloads: int, seed: int) -> None:
    """Does not return: libFuzzer ends the process, with 77 after a failure, whose payload it writes to crash-*."""
    try:
        import atheris
    except ImportError:
        print("--coverage needs atheris, which comes as a wheel for Linux on x86-64: pip install atheris", file=sys.stderr)
        sys.exit(2)
    with atheris.instrument_imports(include=["streams"], enable_loader_override=False):
        from tests.fuzz.payloads import mangled
        from tests.fuzz.targets import FileTarget, pure_targets
        from tests.unit.hostile_events import Sent
    targets = [target for target in pure_targets() if not isinstance(target, FileTarget)]

    def judge(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)].judge([Sent(data[1:], b"c-1")])

    def spoil(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        at = chance.randrange(len(targets))
        if len(data) < 10 or chance.random() < 0.3:
            return (bytes([at]) + (targets[at].make(chance).value or b""))[:most]
        if chance.random() < 0.5:
            return (data[:1] + mangled(chance, data[1:]))[:most]
        return bytes(atheris.Mutate(data, len(data)))[:most]

    options = [f"-runs={payloads}", f"-seed={seed % 2**31 or 1}", "-max_len=70000", "-print_final_stats=1", "-artifact_prefix=fuzz-"]
    atheris.Setup([sys.argv[0], *options], judge, custom_mutator=spoil)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
