"""What is to be said of the settings themselves. Nothing is asked, and no secret is shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from streams.api.access import Access, OpenToAll
from streams.config import Privacy, Settings
from streams.doctor.finding import Finding, failure, ok, warning


def judge_configuration(settings: Settings) -> Iterator[Finding]:
    """Findings on the settings of both processes."""
    built_in = Privacy.model_fields["user_key"].default.get_secret_value()
    if settings.privacy.user_key.get_secret_value() == built_in:
        yield warning(
            "privacy key",
            "privacy.user_key is the built-in one, which is public: whoever sees the tables can find out whose hashes they hold",
            "set CAMPAIGNWATCH_PRIVACY__USER_KEY to one of your own, before there are events that matter (openssl rand -hex 32)",
        )
    else:
        yield ok("privacy key", "your own")
    access = Access(settings.http)
    exposed = False
    for name, host in (("streams.http_host", settings.streams.http_host), ("alerts.http_host", settings.alerts.http_host)):
        try:
            access.check_exposure(host)
        except OpenToAll:
            exposed = True
            yield failure(
                "http login",
                f"{name} is {host or 'every address'} without a login: that process does not start",
                "set CAMPAIGNWATCH_HTTP__TOKEN or CAMPAIGNWATCH_HTTP__PASSWORD, or listen on 127.0.0.1",
            )
            continue
        if not access.restricted and settings.http.allow_anonymous and host not in ("127.0.0.1", "::1", "localhost"):
            exposed = True
            yield warning(
                "http login",
                f"{name} is {host or 'every address'}, and http.allow_anonymous lets everybody read the pages",
                "set http.token or http.password, unless a proxy in front asks for a login",
            )
    if not exposed:
        yield ok("http login", "the pages ask for one" if access.restricted else "none, and the pages are served to this machine only")
