"""People who signed in, and those who are about to, in Redis.

The sessions of one person are the fields of a hash: when the session expires, a space, and the rest as JSON.
A login is a field of one hash for all, and a second key has when each expires. A login that somebody took has
the taker's nonce in front.
"""

import json
import secrets
import time
from dataclasses import astuple

import structlog
from pydantic import ConfigDict, TypeAdapter, ValidationError

from occd.sessions import LOGIN_S, LOGINS_MAX, SESSION_S, SESSIONS_MAX, Login, Session
from occd.state.redis.connect import Reply
from occd.state.redis.store import RedisStore

log = structlog.get_logger()

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_login = TypeAdapter(tuple[str, str, str, str, str, float], config=_STRICT)
_session = TypeAdapter(tuple[str, str, str, str, list[str], float, float, str], config=_STRICT)


class RedisSessions:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def expect(self, login: Login) -> None:
        bounds = time.time(), LOGINS_MAX, int(1000 * LOGIN_S)
        told = json.dumps(astuple(login))
        await self._logins("expect_login", login.state, told, login.expires_at, *bounds)

    async def take(self, state: str) -> Login | None:
        found = await self._logins("take_login", state, secrets.token_hex(8))
        try:
            login = Login(*_login.validate_json(found)) if found else None
        except ValidationError:
            log.warning("a damaged login is left out")
            return None
        return login if login and login.expires_at > time.time() else None

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

    async def _logins(self, script: str, *args: str | float) -> Reply:
        keys = [self._store.key("{logins}"), self._store.key("{logins}:t")]
        (said,) = await self._store.link.run(self._store.script(script, keys, *args))
        return said

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
    # name, the login, when it expires, now, how many there may be, how long they are kept in milliseconds
    "expect_login": """
local K, T = KEYS[1], KEYS[2]
local function drop(name)
  redis.call('HDEL', K, name)
  redis.call('ZREM', T, name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', T, '-inf', ARGV[4])) do drop(name) end
redis.call('HSET', K, ARGV[1], ARGV[2])
redis.call('ZADD', T, ARGV[3], ARGV[1])
for _, name in ipairs(redis.call('ZRANGE', T, 0, -1 - ARGV[5])) do drop(name) end
redis.call('PEXPIRE', K, ARGV[6])
redis.call('PEXPIRE', T, ARGV[6])
return 'done'
""",
    # name, a nonce
    "take_login": """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored then return '' end
local nonce, login = string.match(stored, '^(%x*)(.*)')
if nonce == '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. login)
elseif nonce ~= ARGV[2] then return '' end
return login
""",
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
