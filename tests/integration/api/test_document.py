"""The published OpenAPI document and the pages agree."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import hypothesis
import hypothesis.strategies as st
import schemathesis
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from streams.api.health import Health
from streams.config import Http, Settings
from tests.integration.api.served import Pages, start
from tests.integration.conftest import client_of

_TOKEN = "secret-token"


async def test_the_pages_keep_to_their_document(pages: Pages) -> None:
    """Valid and invalid requests made from the document get what it promises, and never a 500."""
    await asyncio.to_thread(_hold_to_document, pages.server.url, {}, _CHECKS)


async def test_with_a_login_the_pages_keep_to_their_document_and_no_page_forgets_to_ask(settings: Settings) -> None:
    """As above, and schemathesis asks once more without the token, and with a wrong one, which must get a 401."""
    closed = settings.model_copy(update={"http": Http(token=SecretStr(_TOKEN), password=SecretStr("secret-password"))})
    async with client_of(settings.redis.url) as redis:
        server = await start(closed, redis, lambda: Health(True, True, {"lag": 0}))
        login = {"Authorization": f"Bearer {_TOKEN}"}
        await asyncio.to_thread(_hold_to_document, server.url, login, [*_CHECKS, ignored_auth])
        await server.stop()


_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


_WINDOWS = st.sampled_from(["10s", "5m", "1h", "1d", "30d"])
_MEASURES = st.sampled_from(["clicks", "spend", "cpc", "conversions_lead"])
#: What makes an answer of these pages likely; the document cannot say it all (bounds that fit the panes, names of measures).
_ANSWERABLE: dict[str, dict[str, st.SearchStrategy[str]]] = {
    "/api/kpis": {"window": _WINDOWS, "sort": st.sampled_from(["-spend", "ctr", "-reach"]), "columns": _MEASURES},
    "/api/kpis/series": {"window": st.sampled_from(["1h", "30d"]), "step": st.sampled_from(["1h"]), "measure": _MEASURES},
}


def _hold_to_document(url: str, login: dict[str, str], checks: list[Any]) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=login)
    found: Any
    for found in schema.get_all_operations():
        operation = found.ok()
        valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        _hold(valid, login, checks)
        if list(operation.query):
            _hold(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), login, [*checks, negative_data_rejection])
        if operation.path in _ANSWERABLE:
            _hold(st.builds(_answerable, valid, st.fixed_dictionaries(_ANSWERABLE[operation.path])), login, [*checks, _is_answered])


def _answerable(case: Any, known: dict[str, str]) -> Any:
    kept = {name: value for name, value in (case.query or {}).items() if name in ("cube", "limit", "offset")}
    case.query = {**kept, **known}
    return case


def _is_answered(_: Any, response: Any, __: Any) -> None:
    assert response.status_code == 200, response.text


def _hold(cases: st.SearchStrategy[Any], login: dict[str, str], checks: list[Any]) -> None:
    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=25,
        deadline=timedelta(seconds=5),
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def holds(case: Any) -> None:
        case.call_and_validate(checks=checks, headers=login)

    holds()
