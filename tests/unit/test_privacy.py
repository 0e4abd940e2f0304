"""Users' ids: what they become without and with the key, and that no refusal repeats what names a person."""

from __future__ import annotations

import pytest

from streams.config import EVENT_TOPICS, Topic
from streams.events.models import MODELS, PERSONAL_FIELDS
from streams.events.parsing import parse
from streams.events.refusal import Reason, Refusal
from streams.ingest.texts import Texts
from streams.ingest.users import user_digests, user_hasher
from tests.unit.agreement import MONEY, agree
from tests.unit.hostile_events import Sent
from tests.unit.test_decode import sent

USERS = [f"user-{i}" for i in range(1_000)]


def test_another_key_makes_another_hash_of_every_user() -> None:
    one, two, again = (user_hasher(key)(Texts.of(USERS)) for key in ("key one", "key two", "key one"))
    assert one.tolist() == again.tolist()
    assert not (one == two).any()
    assert set(user_digests("key one", USERS)).isdisjoint(user_digests("key two", USERS))
    # Nor is it a hash without a key, or with a part of it.
    assert not (user_hasher("")(Texts.of(USERS)) == one).any()
    assert not (user_hasher("key on")(Texts.of(USERS)) == one).any()


@pytest.mark.parametrize("topic", EVENT_TOPICS)
def test_a_refusal_repeats_nothing_that_names_a_person(topic: Topic) -> None:
    """Neither the field itself, nor a field of another type in its place, nor a key that should have been the campaign."""
    found = 0
    for name in PERSONAL_FIELDS:
        if name not in MODELS[topic].model_fields:
            continue
        for value in ("zebra-7731" * 300, "zebra-7731\ud800", ["zebra-7731"], {"zebra-7731": 1}, 7731):
            _, refused = agree(topic, [sent(topic, **{name: value})])
            assert len(refused) == 1
            assert "zebra" not in refused[0].detail
            assert "7731" not in refused[0].detail
            assert name in refused[0].detail
            found += 1
    assert found >= 15
    if topic is Topic.SPEND:
        _, refused = agree(topic, [Sent(sent(topic).value, key) for key in (b"zebra-7731", b"zebra-\xff")])
        assert {each.reason for each in refused.values()} == {Reason.WRONG_KEY}
        assert not [each for each in refused.values() if "zebra" in each.detail]


@pytest.mark.parametrize("key", [b"zebra\x00", b"zebra\xff", b"zebra" * 30])
def test_a_deletion_that_is_keyed_wrongly_does_not_repeat_its_key(key: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse(Topic.CAMPAIGNS, None, key, MONEY)
    assert refused.value.reason is Reason.WRONG_KEY
    assert "zebra" not in refused.value.detail
    assert f"{len(key)} bytes" in refused.value.detail
