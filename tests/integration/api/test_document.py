"""The published OpenAPI document and the pages agree."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import hypothesis
import hypothesis.strategies as st
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.integration.api.served import Pages


async def test_the_pages_keep_to_their_document(pages: Pages) -> None:
    """Valid and invalid requests made from the document get what it promises, and never a 500."""
    await asyncio.to_thread(_hold_to_document, pages.server.url)


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


def _hold_to_document(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found: Any
    for found in schema.get_all_operations():
        operation = found.ok()
        valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        _hold(valid, _CHECKS)
        if list(operation.query):
            _hold(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), [*_CHECKS, negative_data_rejection])
        if operation.path in _ANSWERABLE:
            _hold(st.builds(_answerable, valid, st.fixed_dictionaries(_ANSWERABLE[operation.path])), [*_CHECKS, _is_answered])


def _answerable(case: Any, known: dict[str, str]) -> Any:
    kept = {name: value for name, value in (case.query or {}).items() if name in ("cube", "limit", "offset")}
    case.query = {**kept, **known}
    return case


def _is_answered(_: Any, response: Any, __: Any) -> None:
    assert response.status_code == 200, response.text


def _hold(cases: st.SearchStrategy[Any], checks: list[Any]) -> None:
    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=25,
        deadline=timedelta(seconds=5),
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def holds(case: Any) -> None:
        case.call_and_validate(checks=checks)

    holds()
