"""Metrics of delivery. The only label with many values, `reason`, takes codes from the tables in this package."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600)
#: A window is judged once the lateness and a second have passed, or a tick later; then come the message before it and the sink itself.
_DELAY_BUCKETS = (5, 6, 7, 8, 10, 12, 15, 17.5, 20, 25, 30, 45, 60, 120, 300, 900, 3600)


class DeliveryMetrics:
    """Registered once per process, in the registry behind /metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.delivered = Counter("campaignwatch_notify_delivered", "Changes of incidents delivered, by sink", ["sink"], registry=registry)
        self.failed = Counter(
            "campaignwatch_notify_failed",
            "Changes given up because the sink refused them, by sink and reason",
            ["sink", "reason"],
            registry=registry,
        )
        self.retried = Counter(
            "campaignwatch_notify_retried", "Attempts that are made again, by sink and reason", ["sink", "reason"], registry=registry
        )
        self.folded = Counter(
            "campaignwatch_notify_folded",
            "Updates left out because a newer change of the incident waited, by sink",
            ["sink"],
            registry=registry,
        )
        self.fell_back = Counter(
            "campaignwatch_notify_outbox_fell_back",
            "Times that Redis came back with an older outbox, which was read on from its own cursor, by sink",
            ["sink"],
            registry=registry,
        )
        self.overflow = Gauge(
            "campaignwatch_notify_outbox_overflow",
            "1 while the full outbox drops changes that the sink still needs",
            ["sink"],
            registry=registry,
        )
        self.delivers = Gauge(
            "campaignwatch_notify_delivers", "1 on the replica that delivers to the sink at present", ["sink"], registry=registry
        )
        self.queue = Gauge(
            "campaignwatch_notify_queue_length", "Changes that wait, by sink (delivering replica only)", ["sink"], registry=registry
        )
        self.age = Gauge(
            "campaignwatch_notify_queue_age_seconds",
            "Age of the oldest change that waits, by sink (delivering replica only)",
            ["sink"],
            registry=registry,
        )
        self.latency = Histogram(
            "campaignwatch_notify_delivery_seconds",
            "From a change's entry in the outbox to its delivery, by sink",
            ["sink"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.delay = Histogram(
            "campaignwatch_notify_delay_seconds",
            "From the end of the window that shows a fault to its being told: openings and reopenings of incidents, by sink",
            ["sink"],
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
