"""What a process says about the requests to its pages."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

#: Why a request is refused. `no_login`: it shows none; `wrong_login`: it shows a wrong one; `busy`: http.max_requests are being answered;
#: `connections`: http.max_connections are open, so that nothing was read of it.
REFUSALS = ("no_login", "wrong_login", "busy", "connections")


class HttpMetrics:
    """Requests to the pages of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Counter("campaignwatch_http_refused", "Requests to the pages refused, by reason", ("reason",), registry=registry)
        self.in_progress = Gauge(
            "campaignwatch_http_requests_in_progress", "Requests being answered, health and metrics left out", registry=registry
        )
        self.connections = Gauge("campaignwatch_http_connections", "Open connections to the pages", registry=registry)
        self.cache_bytes = Gauge("campaignwatch_http_cache_bytes", "Panes held from one answer about KPIs to the next", registry=registry)
        self.kept_answers = Gauge("campaignwatch_http_kept_answers", "Answers about KPIs that are kept and renewed", registry=registry)
        for reason in REFUSALS:
            self.refused.labels(reason)
