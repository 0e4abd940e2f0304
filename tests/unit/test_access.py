"""Who may read the pages, and when a process refuses to serve them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streams.api.access import Access, OpenToAll, authorization
from streams.config import Http

TOKEN, PASSWORD = "a-token-for-tests", "pässword: with all"
BY_TOKEN = Http(token=SecretStr(TOKEN))
BY_PASSWORD = Http(username="ann", password=SecretStr(PASSWORD))
BY_EITHER = Http(token=SecretStr(TOKEN), username="ann", password=SecretStr(PASSWORD))


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def test_without_a_login_everybody_may_read() -> None:
    access = Access(Http())
    assert not access.restricted
    assert access.allows(None)
    assert access.allows("Bearer whatever")


@pytest.mark.parametrize("http", [BY_TOKEN, BY_PASSWORD, BY_EITHER], ids=["token", "password", "either"])
def test_what_our_own_programs_send_is_let_in(http: Http) -> None:
    assert Access(http).allows(authorization(http)["Authorization"])
    assert not Access(http).allows(None)


def test_a_token_and_a_password_open_what_they_were_set_for() -> None:
    token, password = f"Bearer {TOKEN}", basic(f"ann:{PASSWORD}")
    opened = {name: [Access(http).allows(shown) for shown in (token, password)] for name, http in {"t": BY_TOKEN, "p": BY_PASSWORD}.items()}
    assert opened == {"t": [True, False], "p": [False, True]}
    assert Access(BY_EITHER).allows(token.replace("Bearer", "bearer"))
    assert Access(BY_EITHER).allows(password)


@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Token {TOKEN}", "Basic", "Basic !", "Basic \udcff"]
    + [basic(login) for login in ("", ":", f"bob:{PASSWORD}", "ann:", "ann", f"ann:{PASSWORD}\n", PASSWORD)],
)
def test_anything_else_is_not(shown: str) -> None:
    assert not Access(BY_EITHER).allows(shown)


@given(st.text(max_size=60))
def test_no_header_does_harm(shown: str) -> None:
    assert not Access(BY_EITHER).allows(f"Bearer {shown}") or shown.strip() == TOKEN
    assert not Access(BY_EITHER).allows(f"Basic {shown}")
    Access(BY_EITHER).allows(shown)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "streams", "localhost.example.com"])
def test_pages_open_to_the_network_need_a_login_or_somebodys_word(host: str) -> None:
    with pytest.raises(OpenToAll, match="CAMPAIGNWATCH_HTTP__TOKEN") as refused:
        Access(Http()).check_exposure(host)
    assert "CAMPAIGNWATCH_HTTP__ALLOW_ANONYMOUS=true" in str(refused.value)
    for http in (BY_TOKEN, BY_PASSWORD, Http(allow_anonymous=True)):
        Access(http).check_exposure(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_on_this_machine_alone_they_do_not(host: str) -> None:
    Access(Http()).check_exposure(host)


def test_what_is_said_to_strangers_names_the_ways_and_no_secret() -> None:
    access = Access(BY_EITHER)
    said = access.hint() + " ".join(access.challenges())
    assert "Bearer TOKEN" in said
    assert "curl --user" in said
    assert TOKEN not in said
    assert PASSWORD not in said
    assert [challenge.split()[0] for challenge in access.challenges()] == ["Basic", "Bearer"]
    assert "curl" not in Access(BY_TOKEN).hint()
