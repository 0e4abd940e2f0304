"""A registry in the text that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics and their content type: OpenMetrics where the Accept header prefers it, else the older text."""
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # prometheus_client fails on versions that are no numbers.
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type
