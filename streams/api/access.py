"""Who may see the pages: nobody but this machine, or whoever shows the token or the password of the settings."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress

from streams.config import Http
from streams.errors import UserError

_REALM = 'realm="Campaignwatch"'


class OpenToAll(UserError):
    """The pages would be readable by everybody in the network; the message says what to set."""


class Access:
    """The login of the pages. Without token and password everybody may read them."""

    def __init__(self, http: Http) -> None:
        self._token = None if http.token is None else http.token.get_secret_value().encode()
        self._login = None if http.password is None else f"{http.username}:{http.password.get_secret_value()}".encode()
        self._anonymous = http.allow_anonymous

    @property
    def restricted(self) -> bool:
        """Whether a login is needed."""
        return self._token is not None or self._login is not None

    def allows(self, authorization: str | None) -> bool:
        """Whether a request with this Authorization header may read the pages. Takes the same time for every wrong secret."""
        if not self.restricted:
            return True
        scheme, _, shown = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                return _same(shown.strip().encode("utf-8", "surrogateescape"), self._token)
            case "basic":
                try:
                    return _same(base64.b64decode(shown.strip().encode("ascii"), validate=True), self._login)
                except (binascii.Error, UnicodeEncodeError):
                    return False
        return False

    def challenges(self) -> list[str]:
        """Values of WWW-Authenticate, the one that a browser can answer first."""
        basic = [f'Basic {_REALM}, charset="UTF-8"'] if self._login is not None else []
        return basic + ([f"Bearer {_REALM}"] if self._token is not None else [])

    def hint(self) -> str:
        """What a program must send, without the secret."""
        ways = ["`Authorization: Bearer TOKEN` with the value of http.token"] if self._token is not None else []
        ways += ["user http.username and password http.password (curl --user)"] if self._login is not None else []
        return f"send {', or '.join(ways)}; /healthz and /readyz need no login"

    def check_exposure(self, host: str) -> None:
        """Raise OpenToAll when serving on `host` would show the pages to the network and nobody has said that this is meant."""
        if self.restricted or self._anonymous or _is_loopback(host):
            return
        raise OpenToAll(
            f"the HTTP pages would be open to everybody who reaches {host or 'this machine'}: set a token (CAMPAIGNWATCH_HTTP__TOKEN, or "
            "CAMPAIGNWATCH_HTTP__TOKEN_FILE) or a password (CAMPAIGNWATCH_HTTP__PASSWORD, or CAMPAIGNWATCH_HTTP__PASSWORD_FILE), or listen "
            "on 127.0.0.1; where everybody may indeed read them, set CAMPAIGNWATCH_HTTP__ALLOW_ANONYMOUS=true"
        )


def authorization(http: Http) -> dict[str, str]:
    """The header with which a program of ours reads the pages; empty where none is needed."""
    if http.token is not None:
        return {"Authorization": f"Bearer {http.token.get_secret_value()}"}
    if http.password is not None:
        login = f"{http.username}:{http.password.get_secret_value()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
    return {}


def _same(shown: bytes, secret: bytes | None) -> bool:
    return secret is not None and hmac.compare_digest(shown, secret)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Another name may mean any address, today or tomorrow.
        return False
