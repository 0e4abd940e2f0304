"""Which incident belongs to which fault, what the demo's verdict on itself is, and its JSON report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.api.times import read_time, write_time
from streams.config import Settings, Topic
from streams.simulate.faults import Fault

#: Milliseconds after its end during which an incident may still be the fault's: windows that contain it are still being judged.
AFTERMATH_MS = 60_000
#: Milliseconds within which a fault should have its incident.
PROMISED_MS = 90_000

Incident = Mapping[str, Any]


def belongs(incident: Incident, fault: Fault) -> bool:
    """Whether the incident names the fault's campaign and opened while the fault was on, or shortly after."""
    opened = read_time(incident["opened_at"])
    return incident["key"].get("campaign_id") == fault.campaign_id and fault.start <= opened <= fault.end + AFTERMATH_MS


def first_of(fault: Fault, incidents: Sequence[Incident]) -> Incident | None:
    """The incident that found the fault: the first one that belongs to it."""
    return min((i for i in incidents if belongs(i, fault)), key=lambda i: read_time(i["opened_at"]), default=None)


def fault_of(incident: Incident, faults: Sequence[Fault]) -> Fault | None:
    """The fault that the incident belongs to."""
    return next((fault for fault in faults if belongs(incident, fault)), None)


def is_open(incident: Incident) -> bool:
    """Whether the incident is not resolved."""
    return bool(incident["change"] != "resolved")


@dataclass(slots=True)
class Outcome:
    """Everything that a run leaves behind. Times are epoch ms."""

    settings: Settings
    seed: int
    started_at: int
    #: When history had been played and the present began.
    live_at: int
    ended_at: int
    produced: Mapping[Topic, int]
    #: The content of /api/ledger.
    ledger: Mapping[str, Any]
    faults: Sequence[Fault]
    incidents: Sequence[Incident]
    events_per_second: float
    #: Events per second that were applied while history was played.
    catch_up_rate: float
    #: What the Slack stand-in received; None where a real Slack was used.
    slack_messages: int | None = None

    def problems(self) -> list[str]:
        """What went wrong, a sentence each; empty for a good run."""
        found = [f"{f.kind} at {f.campaign_id} got no incident" for f in self.faults if first_of(f, self.incidents) is None]
        found.extend(
            f"incident {i['incident_id']} ({i['rule']}, {_key(i)}, opened {i['opened_at']}) belongs to no fault: {i.get('explanation', '')}"
            for i in self.incidents
            if fault_of(i, self.faults) is None
        )
        found.extend(self._unaccounted())
        return found

    def remarks(self) -> list[str]:
        """What is worth knowing but no failure."""
        found = []
        for fault in self.faults:
            incident = first_of(fault, self.incidents)
            if incident is None:
                continue
            took = read_time(incident["opened_at"]) - fault.start
            if took > PROMISED_MS:
                found.append(f"{fault.kind} at {fault.campaign_id} was found late, after {took / 1000:.0f} s")
        found.extend(
            f"incident {i['incident_id']} ({i['rule']}, {_key(i)}) was still open at the end" for i in self.incidents if is_open(i)
        )
        return found

    def _unaccounted(self) -> list[str]:
        read = {self.settings.topic(topic): 0 for topic in self.produced}
        found = []
        for entry in self.ledger["partitions"]:
            read[entry["topic"]] = read.get(entry["topic"], 0) + entry["in"]
            parts = entry["applied"] + entry["duplicate"] + entry["too_late"] + entry["quarantined"]
            if parts != entry["in"]:
                found.append(
                    f"the ledger of {entry['topic']}:{entry['partition']} does not add up: {entry['in']} in, {parts} accounted for"
                )
        for topic, sent in self.produced.items():
            name = self.settings.topic(topic)
            if read[name] != sent:
                found.append(f"{name}: {sent} records were sent and {read[name]} are in the ledger")
        return found

    def content(self) -> dict[str, Any]:
        """The JSON of the contract."""
        return {
            "seed": self.seed,
            "started_at": write_time(self.started_at),
            "live_at": write_time(self.live_at),
            "ended_at": write_time(self.ended_at),
            "produced": {self.settings.topic(topic): count for topic, count in self.produced.items()},
            "ledger": dict(self.ledger),
            "faults": [self._fault(fault) for fault in self.faults],
            "incidents": [self._incident(incident) for incident in self.incidents],
            "events_per_second": round(self.events_per_second, 1),
            "catch_up_events_per_second": round(self.catch_up_rate, 1),
            "slack_messages": self.slack_messages,
            "problems": self.problems(),
            "remarks": self.remarks(),
        }

    def _fault(self, fault: Fault) -> dict[str, Any]:
        incident = first_of(fault, self.incidents)
        return {
            "kind": fault.kind.value,
            "campaign_id": fault.campaign_id,
            "started_at": write_time(fault.start),
            "ended_at": write_time(fault.end),
            "incident_id": incident and incident["incident_id"],
            "seconds_to_incident": incident and (read_time(incident["opened_at"]) - fault.start) / 1000,
        }

    def _incident(self, incident: Incident) -> dict[str, Any]:
        fault = fault_of(incident, self.faults)
        return {
            "incident_id": incident["incident_id"],
            "rule": incident["rule"],
            "cube": incident["cube"],
            "key": incident["key"],
            "opened_at": incident["opened_at"],
            "resolved_at": incident.get("resolved_at"),
            "fault": fault and fault.kind.value,
            "explanation": incident.get("explanation"),
        }


def _key(incident: Incident) -> str:
    return ", ".join(f"{name} {value}" for name, value in incident["key"].items()) or "everything"
