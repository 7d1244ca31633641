"""What the part `keys` of every state promises (`occd/state/__init__.py`)."""

import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from seams import STATE_SEAMS, StateSeam

from occd.errors import Rejected
from occd.key import Key
from occd.principal import Scope
from occd.state.keys import EXPIRED_KEPT_S, KEYS_MAX


@pytest.fixture(params=STATE_SEAMS)
def seam(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StateSeam:
    return STATE_SEAMS[request.param](tmp_path, monkeypatch)


def make(
    id: str,
    *,
    scopes: frozenset[Scope] = frozenset({"run", "read-all"}),
    at: float = 1_700_000_000.25,
    expires_at: float | None = None,
) -> Key:
    digest = sha256(id.encode()).hexdigest()
    return Key(id, digest, "key:moodle", "service", scopes, at, expires_at)


async def test_a_key_is_found_by_its_hash_and_listed_by_creation(seam: StateSeam) -> None:
    first, second = make("zz", expires_at=1_900_000_000.5), make("aa", at=1_700_000_001)
    async with seam.open() as state:
        await state.keys.add(second)
        await state.keys.add(first)
        assert await state.keys.find(first.sha256) == first
        assert await state.keys.find("0" * 64) is None
        assert await state.keys.all() == [first, second]


async def test_keys_outlive_the_process(seam: StateSeam) -> None:
    kept, revoked = make("kept"), make("revoked")
    async with seam.open() as state:
        await state.keys.add(kept)
        await state.keys.add(revoked)
        await state.keys.revoke("revoked")
        seam.crash()
    async with seam.open() as state:
        assert await state.keys.all() == [kept]


async def test_a_revoked_key_is_forgotten(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.keys.add(key := make("k", expires_at=1_900_000_000))
        await state.keys.used({"k": 1_700_000_100})
        await state.keys.revoke("k")
        await state.keys.revoke("k")
        await state.keys.used({"k": 1_700_000_200})
        assert await state.keys.find(key.sha256) is None
        assert await state.keys.all() == []
        await state.keys.add(key)
        assert await state.keys.all() == [key]  # nothing of the first one was left


async def test_the_last_use_only_grows(seam: StateSeam) -> None:
    async with seam.open() as state:
        await state.keys.add(key := make("k"))
        await state.keys.add(other := make("other"))
        await state.keys.used({"k": 1_700_000_200, "unknown": 1})
        await state.keys.used({"k": 1_700_000_100})
        assert await state.keys.find(key.sha256) == replace(key, used_at=1_700_000_200)
        assert await state.keys.find(other.sha256) == other


@pytest.mark.parametrize(
    ("before", "after"), [(None, 1_800_000_000), (1_900_000_000, 1_800_000_000), (1.5, 1.5)]
)
async def test_a_key_expires_never_later_than_it_was_told(
    seam: StateSeam, before: float | None, after: float
) -> None:
    async with seam.open() as state:
        await state.keys.add(key := make("k", expires_at=before))
        await state.keys.expire("k", 1_800_000_000)
        await state.keys.expire("unknown", 1_800_000_000)
        assert await state.keys.all() == [replace(key, expires_at=after)]


async def test_keys_that_expired_long_ago_make_room(seam: StateSeam) -> None:
    now = time.time()
    lately, long_ago = make("lately", expires_at=now - 60), make("x", expires_at=now - 700_000)
    assert now - 700_000 < now - EXPIRED_KEPT_S
    async with seam.open() as state:
        await state.keys.add(long_ago)
        await state.keys.add(lately)
        assert await state.keys.all() == [lately]


async def test_there_is_a_bound(seam: StateSeam, monkeypatch: pytest.MonkeyPatch) -> None:
    for store in ("embedded", "redis"):
        monkeypatch.setattr(f"occd.state.{store}.keys.KEYS_MAX", 2)
    assert KEYS_MAX >= 10_000
    async with seam.open() as state:
        await state.keys.add(make("a"))
        await state.keys.add(make("b"))
        with pytest.raises(Rejected):
            await state.keys.add(make("c"))
        assert await state.keys.all() == [make("a"), make("b")]
        await state.keys.revoke("a")
        await state.keys.add(make("c"))
