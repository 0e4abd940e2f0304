"""What a process says about the requests to its pages."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

#: Why a request is refused. `no_login`: it shows none; `wrong_login`: it shows a wrong one; `busy`: http.max_requests are being answered.
REFUSALS = ("no_login", "wrong_login", "busy")


class HttpMetrics:
    """Requests to the pages of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Counter("campaignwatch_http_refused", "Requests to the pages refused, by reason", ("reason",), registry=registry)
        self.in_progress = Gauge(
            "campaignwatch_http_requests_in_progress", "Requests being answered, health and metrics left out", registry=registry
        )
        for reason in REFUSALS:
            self.refused.labels(reason)
