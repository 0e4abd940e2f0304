"""Environments of the peers: each in a virtual environment of its own, with exact versions, made once and kept in .cache/bench.

Packages come from where this machine's pip and Maven are set up to look.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from streams.embedded.apache_kafka import java
from streams.errors import UserError

CACHE = Path(__file__).parent.parent / ".cache" / "bench"


class EnvironmentMissing(UserError):
    """A peer cannot be installed here. The message says which and why."""


@dataclass(frozen=True)
class Environment:
    """What a peer needs. `jars` are Maven artifacts, group:artifact:version; with any, Java is needed too."""

    name: str
    requirements: tuple[str, ...]
    jars: tuple[str, ...] = ()
    #: A newer Python than this cannot install it.
    newest_python: tuple[int, int] | None = None


# orjson is what the guides of these systems, or their own code, take where it is installed; it was the faster choice in each.
FAUST = Environment("faust", ("faust-streaming==0.15.3", "aiokafka==0.14.0", "mode-streaming==0.7.1", "orjson==3.13.0", "redis==8.1.0"))
BYTEWAX = Environment("bytewax", ("bytewax==0.21.1", "confluent-kafka==2.16.1", "orjson==3.13.0", "redis==8.1.0"), newest_python=(3, 12))
QUIX = Environment("quix", ("quixstreams==3.28.1", "confluent-kafka==2.12.2", "orjson==3.13.0", "redis==8.1.0"))
PATHWAY = Environment("pathway", ("pathway==0.33.0", "redis==8.1.0"))
FLINK = Environment(
    "flink", ("apache-flink==2.2.1", "redis==5.3.1"), ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",), newest_python=(3, 12)
)


def python_of(environment: Environment, cache: Path = CACHE) -> Path:
    """The environment's Python; installed first where it is not there. Raises EnvironmentMissing."""
    home = cache / environment.name
    done, wanted = home / "installed.txt", "\n".join((*environment.requirements, *environment.jars, sys.version))
    python = home / "bin" / "python"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    if environment.newest_python is not None and sys.version_info[:2] > environment.newest_python:
        newest = ".".join(map(str, environment.newest_python))
        raise EnvironmentMissing(
            f"{environment.name}: its pinned version needs Python {newest} or older, and this is {sys.version.split()[0]}"
        )
    if home.exists():
        shutil.rmtree(home)
    venv.create(home, with_pip=True)
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *environment.requirements], environment.name)
    for artifact in environment.jars:
        java()
        maven = shutil.which("mvn")
        if maven is None:
            raise EnvironmentMissing(f"{environment.name}: no mvn on PATH to fetch {artifact}; install Maven")
        copy = [maven, "-B", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={home / 'jars'}"]
        _run(copy, environment.name)
    done.write_text(wanted, encoding="utf-8")
    return python


def jars_of(environment: Environment, cache: Path = CACHE) -> list[Path]:
    """The jars, once `python_of` has been there."""
    return sorted((cache / environment.name / "jars").glob("*.jar"))


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise EnvironmentMissing(f"{name}: {Path(command[0]).name} failed with status {done.returncode}: {done.stdout.strip()[-600:]}")
