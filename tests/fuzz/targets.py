"""What is fuzzed: each target makes payloads, gives them to the real code, and says what became of each. Pure but for small files."""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import msgspec

from streams.campaigns import read_changes
from streams.config import EVENT_TOPICS, Topic, load
from streams.errors import UserError
from streams.events.models import MODELS
from streams.events.parsing import Deletion, parse, registered
from streams.events.refusal import Reason, Refusal
from streams.quarantine import Coordinates, QuarantineError, decode_quarantined, quarantine_record
from streams.quarantine.record import LARGEST_RECORD
from streams.replay.mapping import BUNDLED, load_mapping
from tests.fuzz.defects import Defect
from tests.fuzz.payloads import literal, mangled, payload
from tests.unit.agreement import MONEY, agree
from tests.unit.hostile_events import BAD_BYTES, Sent

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TAKEN = "taken"
#: Longest detail that helps anybody.
_LONGEST_DETAIL = 4_096
_WHOLE = {Reason.TOO_LARGE: "the value has ", Reason.EMPTY: "the record has no value", Reason.WRONG_KEY: "key: "}
_MALFORMED = ("not UTF-8: byte ", "not JSON: ", "the value starts with a byte-order mark", "expected one JSON object, got ")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Target(ABC):
    """One way into the program."""

    name: str
    #: Payloads that are judged at once.
    batch = 50

    @abstractmethod
    def make(self, chance: random.Random) -> Sent:
        """One payload."""

    @abstractmethod
    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """What became of each: `TAKEN` or a reason. Raises (mostly Defect) when the program did what it must not."""

    def __enter__(self) -> Target:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


@dataclass(frozen=True)
class _Coordinated:
    """A record with its place, as the quarantine wants it."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    topic: str = "marketing.clicks"
    partition: int = 0
    offset: int = 42


def check_refusal(topic: Topic, sent: Sent, refusal: Refusal) -> str:
    """A refusal has a known code, a detail that names what is wrong in readable words, and a quarantine record that holds all of it, or
    says what was too long to be held."""
    detail = refusal.detail
    if not detail or len(detail) > _LONGEST_DETAIL:
        raise Defect(f"length of the detail: {len(detail)} characters")
    if _CONTROL.search(detail):
        raise Defect(f"control character in the detail: {detail!r}")
    if refusal.reason in (Reason.MISSING_FIELD, Reason.INVALID_FIELD):
        named = detail.partition(":")[0].partition(".")[0]
        if named not in MODELS[topic].model_fields:
            raise Defect(f"no field named: {detail!r}")
    elif refusal.reason is Reason.UNKNOWN_CURRENCY:
        if not detail.startswith("currency"):
            raise Defect(f"no currency named: {detail!r}")
    elif not detail.startswith(_MALFORMED if refusal.reason is Reason.MALFORMED else _WHOLE[refusal.reason]):
        raise Defect(f"detail of {refusal.reason}: {detail!r}")
    written = quarantine_record(_Coordinated(sent.key, sent.value, sent.timestamp), refusal, NOW)
    if len(written.key or b"") + len(written.value) > LARGEST_RECORD:
        raise Defect("quarantine record: longer than its topic takes")
    back = decode_quarantined(written.value)
    content = (sent.key or b"") + (sent.value or b"")
    kept = (sent.key, sent.value, 0)
    # In base64 three quarters of the largest record fit in, less what stands beside them: what is shorter than this always does.
    if back.left_out_bytes and len(content) > 0.7 * LARGEST_RECORD and hashlib.sha256(content).hexdigest() in back.detail:
        kept = (None, None, len(content))
    if (back.reason, back.key, back.value, back.left_out_bytes, back.timestamp) != (refusal.reason.value, *kept, sent.timestamp):
        raise Defect("quarantine record: does not hold what was refused")
    return refusal.reason.value


class DecodeTarget(Target):
    """Records of a topic of events: fast decoder and arbiter must agree on every one and every value."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.name = topic.value

    def make(self, chance: random.Random) -> Sent:
        """A spoilt event."""
        return payload(chance, self.topic)

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """By both decoders."""
        try:
            _, refusals = agree(self.topic, payloads)
        except AssertionError as error:
            raise Defect(f"decoders disagree: {str(error)[:2_000]}") from error
        return [check_refusal(self.topic, sent, refusals[i]) if i in refusals else TAKEN for i, sent in enumerate(payloads)]


class RegistryTarget(Target):
    """Records of the campaigns topic: what is taken can be stored, and read back as the same campaign."""

    name = Topic.CAMPAIGNS.value

    def make(self, chance: random.Random) -> Sent:
        """A spoilt campaign."""
        return payload(chance, Topic.CAMPAIGNS)

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """By the arbiter; there is no other way."""
        return [self._one(sent) for sent in payloads]

    def _one(self, sent: Sent) -> str:
        try:
            campaign = parse(Topic.CAMPAIGNS, sent.value, sent.key, MONEY)
        except Refusal as refusal:
            return check_refusal(Topic.CAMPAIGNS, sent, refusal)
        if isinstance(campaign, Deletion):
            return "deletion"
        stored = msgspec.json.encode(registered(campaign))  # type: ignore[arg-type]
        json.loads(stored)
        # In lower case a channel may be longer than it was sent; what was sent is what counts.
        if len(stored) < 60_000 and len(campaign.channel or "") <= 64 and parse(Topic.CAMPAIGNS, stored, sent.key, MONEY) != campaign:
            raise Defect("registry: a stored campaign reads back as another")
        return TAKEN


class QuarantineTarget(Target):
    """Bytes on the quarantine topic, by whomever: a quarantine record, or a QuarantineError."""

    name = "quarantine"

    def make(self, chance: random.Random) -> Sent:
        """A real one, spoilt."""
        sent = payload(chance, Topic.CLICKS)
        if len(sent.value or b"") > 2_000:
            sent = Sent(b"{", sent.key)
        refusal = Refusal(chance.choice(list(Reason)), literal(chance, Topic.CLICKS)[:500])
        value = quarantine_record(_Coordinated(sent.key, sent.value, sent.timestamp), refusal, NOW).value
        content = json.loads(value)
        if chance.random() < 0.6:
            content[chance.choice(list(content))] = chance.choice(
                (None, True, 5, -1, 2**63, 2**64, 1e300, "", "x", "=", "====", "Zg", "Zg==", "Z g==", "2026-11-23", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "\ud800", [], {})
            )  # fmt: skip
            value = json.dumps(content).encode()
        while chance.random() < 0.4:
            value = mangled(chance, value)
        return Sent(value)

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """By the reader of quarantine records, and that of coordinates."""
        return [self._one(sent.value or b"") for sent in payloads]

    @staticmethod
    def _one(value: bytes) -> str:
        text = value[:200].decode("utf-8", "surrogateescape")
        try:
            if Coordinates.parse(text) != Coordinates.parse(str(Coordinates.parse(text))):
                raise Defect(f"coordinates: {text!r} do not read back")
        except QuarantineError:
            pass
        try:
            decode_quarantined(value)
        except QuarantineError:
            return "refused"
        return TAKEN


class FileTarget(Target):
    """A YAML file that an operator wrote: settings, a mapping, campaigns; or a UserError that names the file."""

    batch = 5

    def __init__(self, name: str, examples: Sequence[str], read: Callable[[Path], object]) -> None:
        self.name = name
        self._examples = examples
        self._read = read
        self._directory = tempfile.TemporaryDirectory(prefix="campaignwatch-fuzz-")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._directory.cleanup()

    def make(self, chance: random.Random) -> Sent:
        """An example with a line changed, doubled or gone, and some bytes."""
        lines = chance.choice(self._examples).splitlines()
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(len(lines))
            key, colon, _ = lines[at].partition(":")
            odd = chance.choice((literal(chance, Topic.CLICKS)[:300], "!!python/object:os.system x", "&a [*a]", "*a", "0o7", "1_0", ".inf", ".nan", "2026-11-23", "2026-02-30", "yes", "~", "? x", "|", ">", "[", "{}", "<<: *a"))  # fmt: skip
            act = chance.randrange(4)
            if act == 0:
                lines[at] = f"{key}{colon or ':'} {odd}"
            elif act == 1:
                lines.insert(at, lines[chance.randrange(len(lines))])
            elif act == 2 and len(lines) > 1:
                del lines[at]
            else:
                lines.insert(at, f"{' ' * chance.choice((0, 2, 4))}{chance.choice(('x', 'kafka', '1', '~', odd))}: {odd}")
        value = "\n".join(lines).encode("utf-8", "surrogatepass")
        while chance.random() < 0.3:
            value = mangled(chance, value)
        return Sent(value[:3_000] if chance.random() < 0.98 else value + chance.choice(BAD_BYTES))

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """By the loader."""
        path = Path(self._directory.name) / "file.yaml"
        outcomes = []
        for sent in payloads:
            path.write_bytes(sent.value or b"")
            try:
                self._read(path)
            except UserError as error:
                if path.name not in str(error):
                    raise Defect(f"no file named: {error}") from error
                outcomes.append("refused")
            else:
                outcomes.append(TAKEN)
        return outcomes


_SETTINGS = """kafka:
  bootstrap_servers: localhost:9092
  topic_prefix: marketing
redis:
  url: redis://localhost:6379/0
  namespace: cw
streams:
  http_port: 8081
  dedupe_horizon: 3600
  lateness: 5
  ladder:
    - {size: 10, keep: 3600}
    - {size: 60, keep: 93600}
money:
  reporting_currency: USD
  rates: {EUR: "1.0842", JPY: "0.0064"}
  spend_sources: {meta: reports}
cubes:
  keyword: [campaign_id, keyword]
alerts:
  http_port: 8082
slack:
  webhook_url: https://hooks.example.com/x
"""
_CAMPAIGNS = """campaigns:
  - campaign_id: c-1
    name: Spring
    budget: {daily: 100, monthly: 2500.50}
    time_zone: Europe/Berlin
    starts_on: 2026-11-01
    targets: {cpa: 12}
    calendar: {2026-11-27: 3}
    labels: {team: north}
    pacing: [1, 2, 3]
  - campaign_id: c-2
    name: Summer
"""


def pure_targets() -> list[Target]:
    """Those that need no server."""
    mappings = [path.read_text(encoding="utf-8") for path in sorted(BUNDLED.glob("*.yaml"))]
    return [
        *(DecodeTarget(topic) for topic in EVENT_TOPICS),
        RegistryTarget(),
        QuarantineTarget(),
        FileTarget("settings_file", [_SETTINGS], load),
        FileTarget("mapping_file", mappings, load_mapping),
        FileTarget("campaigns_file", [_CAMPAIGNS], lambda path: read_changes(path, MONEY)),
    ]
