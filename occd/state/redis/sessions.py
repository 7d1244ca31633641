"""People who signed in, in Redis.

The sessions of one person are the fields of a hash: when the session expires, a space, and the rest as JSON.
"""

import json
import time
from dataclasses import astuple

import structlog
from pydantic import ConfigDict, TypeAdapter, ValidationError

from occd.sessions import SESSION_S, SESSIONS_MAX, Session
from occd.state.redis.connect import Reply
from occd.state.redis.store import RedisStore

log = structlog.get_logger()

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_session = TypeAdapter(tuple[str, str, str, str, list[str], float, float, str], config=_STRICT)


class RedisSessions:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def open(self, session: Session) -> None:
        bounds = time.time(), SESSIONS_MAX, int(1000 * SESSION_S)
        await self._sessions("open_session", session.id, _stored(session), *bounds)

    async def find(self, id: str) -> Session | None:
        found = await self._stored(id)
        return _load(found) if found else None

    async def rotate(self, id: str, sha256: str, new: str, now: float) -> bool:
        found = await self._stored(id)
        session = _load(found) if found else None
        rotated = session and session.rotated(sha256, new, now)
        if rotated is None:
            return False
        said = await self._sessions("rotate_session", id, found, _stored(rotated))
        return bool(said == b"done")

    async def close(self, id: str) -> None:
        await self._store.link.run(("HDEL", self._key(id), id))

    async def _stored(self, id: str) -> bytes:
        (found,) = await self._store.link.run(("HGET", self._key(id), id), certain=False)
        return found or b""

    async def _sessions(self, script: str, id: str, *args: str | bytes | float) -> Reply:
        command = self._store.script(script, [self._key(id)], id, *args)
        (said,) = await self._store.link.run(command)
        return said

    def _key(self, id: str) -> str:
        return self._store.key(f"sessions:{id.partition('.')[0]}")


def _stored(session: Session) -> str:
    return f"{session.expires_at!r} {json.dumps(astuple(session))}"


def _load(stored: bytes) -> Session | None:
    """None for one that was damaged: the person signs in again."""
    try:
        told = _session.validate_json(stored.partition(b" ")[2])
    except ValidationError:
        log.warning("a damaged session is left out")
        return None
    id, sha256, owner, name, groups, expires_at, rotated_at, before = told
    return Session(id, sha256, owner, name, tuple(groups), expires_at, rotated_at, before)


SCRIPTS = {
    # id, the session, now, how many there may be, how long they are kept in milliseconds
    "open_session": """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local others, all = {}, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local expires_at = tonumber(string.match(all[at + 1], '^%S+') or '') or 0
  if expires_at <= tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[at])
  elseif all[at] ~= ARGV[1] then others[#others + 1] = {expires_at, all[at]} end
end
table.sort(others, function(one, other) return one[1] < other[1] end)
for at = 1, #others + 1 - ARGV[4] do redis.call('HDEL', KEYS[1], others[at][2]) end
return 'done'
""",
    # id, the session as it was, as it is to be
    "rotate_session": """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[3] then return 'done' end
if stored ~= ARGV[2] then return 'other' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 'done'
""",
}
