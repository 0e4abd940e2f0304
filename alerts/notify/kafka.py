"""The topic PREFIX.alerts: every change, as JSON, keyed by its incident."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from alerts.incidents.change import Change
from alerts.notify.sink import Rejected, Retry
from streams.config import Settings, Topic
from streams.kafka import connection

_REQUEST_TIMEOUT_MS = 10_000


class KafkaSink:
    """Writes each change to the alerts topic and waits for all in-sync replicas (acks=all).

    At least once: a change may appear twice after a crash; (incident_id, seq) tells.
    """

    name = "kafka"
    folds = False

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka.bootstrap_servers
        self._connection = connection(settings.kafka)
        self._topic = settings.topic(Topic.ALERTS)
        self._producer: AIOKafkaProducer | None = None

    async def deliver(self, change: Change) -> None:
        """Append the change to the topic."""
        try:
            producer = await self._started()
            await producer.send_and_wait(self._topic, key=change.incident_id.encode(), value=change.to_json().encode())
        except MessageSizeTooLargeError as error:
            raise Rejected("too_large", f"{self._topic}: the change is larger than the broker accepts ({error})", fixable=False) from error
        except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError, InvalidTopicError) as error:
            detail = f"{self._topic}: {error}; allow this client to write to the topic, or correct kafka.topic_prefix"
            raise Rejected("not_allowed", detail, fixable=True) from error
        except KafkaTimeoutError as error:
            detail = f"{self._topic} at {self._servers}: no answer in time; is the broker up, and was `campaignwatch topics create` run?"
            raise Retry("timeout", detail) from error
        except (KafkaError, OSError) as error:
            raise Retry("unavailable", f"{self._topic} at {self._servers}: {error}") from error

    async def close(self) -> None:
        """Close the producer's connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(**self._connection, acks="all", request_timeout_ms=_REQUEST_TIMEOUT_MS)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer
