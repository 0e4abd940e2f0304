"""How far a replay has come, in a small file, so that `--resume` goes on where it was interrupted."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from streams.config import Settings
from streams.errors import UserError
from streams.replay.mapping import Mapping
from streams.replay.reading import Source

#: Goes up when the order of a replay's events changes: a count of the old order says nothing about the new one.
ORDER_VERSION = 1


class ProgressError(UserError):
    """The state file cannot be used. The message names it and the way out."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The first `sent` events of the replay named `identity` have been acknowledged by the broker, with times moved by `shift_ms`."""

    identity: str
    shift_ms: int
    sent: int


def identity(settings: Settings, mapping: Mapping, sources: list[Source], *, by_time: bool) -> str:
    """Names a replay: these files' content, this mapping, this order, these topics."""
    parts = [
        str(ORDER_VERSION),
        settings.kafka.bootstrap_servers,
        settings.kafka.topic_prefix,
        mapping.model_dump_json(),
        # What the rates refuse is not sent, so they are part of what the count counts.
        settings.money.model_dump_json(),
        str(by_time),
        *(f"{source.tag} {source.format} {source.separator}" for source in sources),
    ]
    return xxhash.xxh3_128("\n".join(parts).encode()).hexdigest()


def default_path(name: str) -> Path:
    """$XDG_STATE_HOME/campaignwatch/replay-NAME.json, by default below ~/.local/state."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "campaignwatch" / f"replay-{name[:16]}.json"


def load(path: Path) -> Progress | None:
    """The progress kept at `path`; None where there is none. Raises ProgressError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Progress(str(content["identity"]), int(content["shift_ms"]), int(content["sent"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProgressError(f"{path}: holds no progress of a replay ({error}); delete it, or name another with --state") from error


def save(path: Path, progress: Progress) -> None:
    """Keep the progress; the file is replaced as a whole, never half written. Raises ProgressError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        beside.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ProgressError(f"{path}: progress cannot be kept there ({error.strerror}); name another file with --state") from error


def forget(path: Path) -> None:
    """Remove what was kept."""
    path.unlink(missing_ok=True)
