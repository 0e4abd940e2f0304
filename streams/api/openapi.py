"""The OpenAPI 3.1 document, made from the declared pages. `python -m streams.api.openapi` prints the committed one."""

from __future__ import annotations

import json
import sys
from typing import Any

from streams.api.pages import SHAPES, WITHOUT_LOGIN, Page, pages
from streams.config import Settings

#: Version of the interface: the first number changes when something that stood there is renamed or reinterpreted.
VERSION = "1.0"


def document(settings: Settings) -> dict[str, Any]:
    """The interface of a process with these settings, as JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Campaignwatch",
            "version": VERSION,
            "description": "KPIs, ledger, registry and incidents. The streams and alerts processes serve the same pages, each on its own "
            "port; any of them answers for all partitions.",
        },
        "servers": [{"url": "/"}],
        "paths": {page.path: {"get": _operation(page)} for page in pages(settings)},
        "components": {"schemas": {name: dict(shape) for name, shape in SHAPES.items()}, "securitySchemes": dict(_LOGINS)},
        "security": _security(settings),
    }


_LOGINS = {
    "token": {"type": "http", "scheme": "bearer", "description": "The value of the setting http.token."},
    "password": {"type": "http", "scheme": "basic", "description": "The settings http.username and http.password."},
}


def _security(settings: Settings) -> list[dict[str, list[str]]]:
    """Which login these settings ask for; where they ask for none, any is optional."""
    given: list[dict[str, list[str]]] = []
    for name, secret in (("token", settings.http.token), ("password", settings.http.password)):
        if secret is not None:
            given.append({name: []})
    return given or [{}, {"token": []}, {"password": []}]


def _operation(page: Page) -> dict[str, Any]:
    name = page.path.strip("/").replace("/", "_").replace(".", "_") or "index"
    operation: dict[str, Any] = {"operationId": name, "summary": page.summary}
    if page.parameters:
        operation["parameters"] = [
            {
                "name": parameter.name,
                "in": "query",
                "description": parameter.meaning,
                "required": parameter.required,
                "schema": dict(parameter.schema),
                **({"style": "form", "explode": True} if parameter.repeated else {}),
            }
            for parameter in page.parameters
        ]
    if page.path in WITHOUT_LOGIN:
        operation["security"] = []
    refused = _response("The settings ask for a login, and the request shows none or a wrong one", "Error")
    operation["responses"] = {
        "200": _response("The answer", page.shape, page.content_type),
        "400": _response("The question cannot be answered as it was put; the sentence names what there is", "Error"),
        **({} if page.path in WITHOUT_LOGIN else {"401": {**refused, "headers": _CHALLENGE}}),
        "503": _response("Not well: see `details`", page.shape)
        if page.sick
        else _response("Redis does not answer, or this process cannot serve the page now; ask again", "Error"),
    }
    return operation


_CHALLENGE = {"WWW-Authenticate": {"description": "The logins that are possible.", "schema": {"type": "string"}}}


def _response(description: str, shape: str | None, content_type: str = "application/json") -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{shape}"} if shape else {"type": "string"}
    return {"description": description, "content": {content_type: {"schema": schema}}}


def text(settings: Settings) -> str:
    """The document as it is committed."""
    return json.dumps(document(settings), indent=2) + "\n"


if __name__ == "__main__":
    # The defaults alone: the committed document must not depend on somebody's environment.
    sys.stdout.write(text(Settings.model_construct()))
