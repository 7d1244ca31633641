"""What the part `sessions` of every state promises (`occd/state/__init__.py`)."""

import time
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from seams import STATE_SEAMS, StateSeam

from occd.sessions import (
    LOST_S,
    OVERLAP_S,
    ROTATE_S,
    SESSION_S,
    SESSIONS_MAX,
    Session,
)


@pytest.fixture(params=STATE_SEAMS)
def seam(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StateSeam:
    return STATE_SEAMS[request.param](tmp_path, monkeypatch)


NOW = time.time()
ADA = "oidc:https://login.example.org#ada"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def session(name: str, *, owner: str = ADA, left_s: float = SESSION_S) -> Session:
    id = f"{digest(owner)[:32]}.{name}"
    groups = ("staff", "two words, and a\nline")
    return Session(id, digest(name), owner, "Ada Löve", groups, NOW + left_s, NOW)


async def test_sessions_outlive_the_process(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.sessions.open(kept := session("kept"))
        await state.sessions.open(closed := session("closed"))
        await state.sessions.close(closed.id)
        await state.sessions.close(closed.id)
        assert await state.sessions.find(kept.id) == kept
        seam.crash()
    async with seam.open() as state:
        assert await state.sessions.find(kept.id) == kept
        assert await state.sessions.find(closed.id) is None
        assert await state.sessions.find(f"{kept.id}x") is None


async def test_beyond_the_most_sessions_of_a_person_the_oldest_ends(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.sessions.open(other := session("other", owner=f"{ADA}2", left_s=SESSION_S / 2))
        many = [session(str(at), left_s=SESSION_S + at) for at in range(SESSIONS_MAX + 2)]
        for each in many:
            await state.sessions.open(each)
        # Opened last, this one stays, although it is not the one that lasts longest.
        await state.sessions.open(last := session("last", left_s=SESSION_S / 2))
        assert await found_of(seam, state.sessions.find, [*many, last, other]) == [
            *many[3:],
            last,
            other,
        ]


async def found_of(seam: StateSeam, find: object, wanted: Iterable[Session]) -> list[Session]:
    found = [await find(each.id) for each in wanted]  # type: ignore[operator]
    return [each for each in found if each]


async def test_a_session_gets_another_secret_when_it_is_time(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.sessions.open(first := session("first"))
        rotate, find = state.sessions.rotate, state.sessions.find
        one, two, three, wrong = first.sha256, digest("two"), digest("three"), digest("wrong")
        assert not await rotate(first.id, one, two, NOW + ROTATE_S - 1)
        assert not await rotate(first.id, wrong, two, NOW + ROTATE_S)
        assert not await rotate(f"{first.id}x", one, two, NOW + ROTATE_S)
        assert await find(first.id) == first
        at = NOW + ROTATE_S
        assert await rotate(first.id, one, two, at)
        second = await find(first.id)
        assert second == replace(first, sha256=two, before=one, rotated_at=at)
        # The other tab's request, which went out at the same time.
        assert not await rotate(first.id, one, three, at + LOST_S - 1)
        # The answer with the new secret was lost.
        assert await rotate(first.id, one, three, at + LOST_S)
        third = await find(first.id)
        assert third == replace(first, sha256=three, before=one, rotated_at=at + LOST_S)
        assert not await rotate(first.id, two, one, at + ROTATE_S)
        assert not await rotate(first.id, three, two, first.expires_at)


async def test_of_many_that_rotate_at_once_one_does(seam: StateSeam) -> None:
    done: list[str] = []

    async def rotate(new: str) -> None:
        if await state.sessions.rotate(given.id, given.sha256, digest(new), NOW + ROTATE_S):
            done.append(digest(new))

    async with seam.open() as state:
        await state.sessions.open(given := session("given"))
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(rotate, str(number))
        rotated = await state.sessions.find(given.id)
        assert rotated
        assert done == [rotated.sha256]


def test_the_secret_before_holds_for_a_while() -> None:
    given = replace(session("x"), before=digest("before"))
    assert given.knows(given.sha256, NOW)
    assert given.knows(given.before, NOW + OVERLAP_S - 1)
    assert not given.knows(given.before, NOW + OVERLAP_S)
    assert not given.knows(digest("wrong"), NOW)
    assert not given.knows(given.sha256, given.expires_at)
    assert not replace(given, before="").knows("", NOW)


async def test_what_expired_makes_room(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.sessions.open(over := session("over", left_s=-SESSION_S))
        await state.sessions.open(session("new"))
        assert await state.sessions.find(over.id) is None
