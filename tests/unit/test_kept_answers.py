"""An answer is never older than its asker takes, and is there before it is wanted while somebody wants it."""

from __future__ import annotations

import asyncio

import pytest

from streams.api.kept_answers import KeptAnswers


class Tables:
    """Answers with how often it was asked; it may be slow, or away."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked: list[str] = []
        self.takes = 0.0
        self.away = False
        self.hold: asyncio.Event | None = None

    async def ask(self, question: str) -> bytes:
        self.asked.append(question)
        number = len(self.asked)
        if self.hold is not None and question in "qa":
            await self.hold.wait()
        if self.away:
            raise OSError("away")
        self.now += self.takes
        return f"{question} {number}".encode()

    def kept(self, limit: int = 10) -> KeptAnswers[str]:
        return KeptAnswers(self.ask, limit, clock=lambda: self.now)


async def test_who_takes_no_age_is_told_what_is_so_now() -> None:
    tables = Tables()
    kept = tables.kept()
    assert await kept.get("q", 0.0) == (b"q 1", 0.0)
    tables.now += 0.001
    assert await kept.get("q", 0.0) == (b"q 2", 0.0)


async def test_who_takes_no_age_leaves_nothing_to_renew_and_takes_no_room() -> None:
    tables = Tables()
    kept = tables.kept(limit=1)
    await kept.get("q", 5.0)
    for _ in range(3):
        await kept.get("plain", 0.0)
        tables.now += 0.1
        await kept.renew()
    assert tables.asked == ["q", "plain", "plain", "plain"]
    assert (await kept.get("q", 5.0))[0] == b"q 1"


async def test_nobody_joins_who_asked_longer_ago_than_the_answer_may_be_old() -> None:
    tables = Tables()
    tables.hold = asyncio.Event()
    kept = tables.kept()
    first = asyncio.create_task(kept.get("q", 5.0))
    await asyncio.sleep(0)
    tables.now += 3.0
    young, fresh = [asyncio.create_task(kept.get("q", age)) for age in (5.0, 0.0)]
    await asyncio.sleep(0)
    tables.hold.set()
    assert [(await each)[0] for each in (first, young)] == [b"q 1", b"q 1"]
    assert await fresh == (b"q 2", 0.0)


async def test_what_went_or_came_anew_while_others_were_renewed_is_left_alone() -> None:
    tables = Tables()
    kept = tables.kept(limit=2)
    await kept.get("a", 5.0)
    await kept.get("b", 5.0)
    tables.now += 4.0
    tables.hold = asyncio.Event()
    renewing = asyncio.create_task(kept.renew())
    await asyncio.sleep(0)
    # Two others take the room while the first is asked anew.
    await kept.get("c", 5.0)
    await kept.get("d", 5.0)
    tables.hold.set()
    await renewing
    assert sorted(tables.asked) == ["a", "a", "b", "c", "d"]
    assert len(kept) == 2


async def test_an_answer_is_given_again_until_it_is_too_old() -> None:
    tables = Tables()
    tables.takes = 2.0
    kept = tables.kept()
    assert await kept.get("q", 5.0) == (b"q 1", 2.0), "it is as old as the question"
    tables.now += 3.0
    assert await kept.get("q", 5.0) == (b"q 1", 5.0)
    tables.now += 0.1
    assert await kept.get("q", 5.0) == (b"q 2", 2.0)
    assert await kept.get("other", 5.0) == (b"other 3", 2.0)


async def test_what_is_wanted_is_asked_anew_beforehand_and_what_is_not_is_forgotten() -> None:
    tables = Tables()
    kept = tables.kept()
    await kept.get("q", 5.0)
    await kept.renew()
    assert tables.asked == ["q"], "it is young"
    tables.now += 3.0
    await kept.renew()
    tables.now += 4.9
    found, age = await kept.get("q", 5.0)
    assert (found, round(age, 3)) == (b"q 2", 4.9)
    tables.now += 60.1
    await kept.renew()
    assert (len(kept), tables.asked) == (0, ["q", "q"])


async def test_trouble_beforehand_is_told_to_who_asks_next() -> None:
    tables = Tables()
    kept = tables.kept()
    await kept.get("q", 5.0)
    tables.away = True
    tables.now += 4.0
    await kept.renew()
    assert await kept.get("q", 5.0) == (b"q 1", 4.0), "still young enough"
    tables.now += 2.0
    with pytest.raises(OSError, match="away"):
        await kept.get("q", 5.0)
    tables.away = False
    assert (await kept.get("q", 5.0))[1] == 0.0


async def test_many_who_ask_at_once_ask_once_and_one_may_leave() -> None:
    tables = Tables()
    tables.hold = asyncio.Event()
    kept = tables.kept()
    askers = [asyncio.create_task(kept.get("q", 5.0)) for _ in range(3)]
    await asyncio.sleep(0)
    askers[0].cancel()
    await asyncio.sleep(0)
    tables.hold.set()
    found = await asyncio.gather(*askers, return_exceptions=True)
    assert [type(found[0]), *found[1:]] == [asyncio.CancelledError, (b"q 1", 0.0), (b"q 1", 0.0)]
    assert tables.asked == ["q"]


@pytest.mark.parametrize("limit", [0, 2])
async def test_no_more_are_kept_than_may_be(limit: int) -> None:
    tables = Tables()
    kept = tables.kept(limit)
    for question in ("a", "b", "a", "c"):
        await kept.get(question, 5.0)
    assert len(kept) == limit
    assert tables.asked == (["a", "b", "c"] if limit else ["a", "b", "a", "c"])
    await kept.get("a", 5.0)
    assert len(tables.asked) == (3 if limit else 5), "the one asked longest ago has gone"


async def test_it_goes_on_asking_until_it_is_cancelled() -> None:
    tables = Tables()
    kept = tables.kept()
    await kept.get("q", 5.0)
    running = asyncio.create_task(kept.run())
    tables.now += 4.0
    async with asyncio.timeout(5.0):
        while len(tables.asked) < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
