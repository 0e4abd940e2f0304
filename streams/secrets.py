"""Secrets among the settings: which ones they are, how they come from files, and how a URL that may hold one is shown.

A setting is secret when its type is SecretStr, or when it is kept out of `repr` (an address that may carry a password). Each can be given
by the environment, `CAMPAIGNWATCH_SLACK__BOT_TOKEN`, or by a file that the environment names, `CAMPAIGNWATCH_SLACK__BOT_TOKEN_FILE`.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from streams.errors import UserError

log = logging.getLogger(__name__)

_OTHERS = stat.S_IRGRP | stat.S_IROTH
#: Bytes of a file that holds a secret; a certificate chain would fit, a log or a device would not.
_LARGEST = 64 * 1024


class SecretError(UserError):
    """A secret cannot be had. The message names the variable and the path, never the content."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret setting: where it stands, and whether any value of it is secret (else only one with a password in it)."""

    path: tuple[str, ...]
    always: bool

    @property
    def key(self) -> str:
        """As in the settings file: `slack.bot_token`."""
        return ".".join(self.path)

    def variable(self, prefix: str) -> str:
        """Its variable in the environment: `CAMPAIGNWATCH_SLACK__BOT_TOKEN`."""
        return prefix.upper() + "__".join(self.path).upper()

    def is_told_by(self, content: Any) -> bool:
        """Whether a settings file's content gives the secret away."""
        for part in self.path:
            content = content.get(part) if isinstance(content, dict) else None
        return content is not None and (self.always or "@" in str(content) or "password=" in str(content))


def secrets(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Secret]:
    """Every secret setting of a model and of the sections in it."""
    for name, field in model.model_fields.items():
        here, kind = (*path, name), field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from secrets(kind, here)
        elif _mentions_secret(kind):
            yield Secret(here, always=True)
        elif not field.repr:
            yield Secret(here, always=False)


def _mentions_secret(kind: Any) -> bool:
    return kind is SecretStr or any(_mentions_secret(part) for part in get_args(kind))


def with_files(environment: Mapping[str, str | None], model: type[BaseModel], prefix: str) -> dict[str, str | None]:
    """The environment (names in lower case) in which each `..._file` of a secret is replaced by the content of the file that it names.

    Raises SecretError when a file cannot be read or is empty, and when both the secret and its file are given.
    """
    found = dict(environment)
    for secret in secrets(model):
        name = secret.variable(prefix)
        path = found.pop(f"{name.lower()}_file", None)
        if not path:
            continue
        if found.get(name.lower()):
            raise SecretError(f"{name} and {name}_FILE are both set in the environment; unset one of them")
        found[name.lower()] = _content(f"{name}_FILE", Path(path))
    return found


def _content(variable: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise SecretError(f"{variable}: {path} cannot be read: {error.strerror}; name a file that this process may read") from error
    except UnicodeDecodeError:
        # Without the cause, which holds the content.
        raise SecretError(f"{variable}: {path} is no text (UTF-8); it must hold the secret alone") from None
    if len(content) > _LARGEST:
        raise SecretError(f"{variable}: {path} is larger than {_LARGEST} bytes; it must hold the secret alone")
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        raise SecretError(f"{variable}: {path} is empty; write the secret into it, or unset {variable}")
    return secret


def warn_of_file(path: Path, content: Any, model: type[BaseModel], prefix: str) -> None:
    """Warn of a settings file that holds secrets and can be read by others than its owner: such files are copied and committed."""
    told = [secret for secret in secrets(model) if secret.is_told_by(content)]
    if told and path.stat().st_mode & _OTHERS:
        log.warning(
            "%s holds secrets (%s) and others can read it: chmod 600 it, or take them out and set %s, or %s_FILE to the path of a file",
            path,
            ", ".join(secret.key for secret in told),
            told[0].variable(prefix),
            told[0].variable(prefix),
        )


def shown_url(url: str) -> str:
    """A URL as it may be shown: without user, password and query, even where it is so malformed that nobody can tell them apart."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        scheme, rest = "", url
    login, at, place = rest.rpartition("@")
    if at and any(sign in login for sign in "/?#"):
        return f"{scheme}{colon}***"
    for sign in "?#":
        place = place.partition(sign)[0]
    return f"{scheme}{colon}{'***@' if at else ''}{place}"
