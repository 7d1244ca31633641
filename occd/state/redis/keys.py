"""Created keys in Redis: one hash for all of them.

k:ID   the SHA-256 of the key, a space, and the rest as JSON
s:SHA  the id of the key with this SHA-256
e:ID   when the key expires
u:ID   when the key was used last
made   names this hash: another name, or none, says that Redis was emptied
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog
from pydantic import ConfigDict, TypeAdapter, ValidationError

from occd.errors import Rejected, StateUnavailable
from occd.key import Key
from occd.principal import Scope
from occd.state.keys import EXPIRED_KEPT_S, KEYS_MAX
from occd.state.redis.connect import Reply
from occd.state.redis.store import RedisStore
from occd.state.redis.values import load_id

log = structlog.get_logger()

_GONE = (
    "keys that were created are gone, because Redis was emptied: create them again "
    "(this line stays until occd starts anew)"
)

_keys = TypeAdapter(
    tuple[str, str, list[Scope], float], config=ConfigDict(strict=True, allow_inf_nan=False)
)


class RedisKeys:
    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._made = b""
        self._gone = False

    async def add(self, key: Key) -> None:
        told = json.dumps((key.owner, key.class_name, sorted(key.scopes), key.created_at))
        expires_at = "" if key.expires_at is None else key.expires_at
        bounds = KEYS_MAX, EXPIRED_KEPT_S
        name = secrets.token_hex(8)
        made = await self._run("add_key", key.id, key.sha256, told, expires_at, *bounds, name)
        if made == b"full":
            raise Rejected("too-many", f"there are {KEYS_MAX} keys: revoke some")
        self._see(made)

    async def all(self) -> Sequence[Key]:
        (found,) = await self._store.link.run(("HGETALL", self._key), certain=False)
        fields = dict(zip(found[::2], found[1::2], strict=True))
        self._see(fields.get(b"made"))
        loaded = (
            _load(
                name[2:],
                stored,
                fields.get(b"e:" + name[2:]),
                fields.get(b"u:" + name[2:]),
            )
            for name, stored in fields.items()
            if name.startswith(b"k:")
        )
        return sorted(filter(None, loaded), key=lambda key: (key.created_at, key.id))

    async def find(self, sha256: str) -> Key | None:
        found = await self._run("find_key", sha256, certain=False)
        self._see(found[0])
        return _load(*found[1:]) if found[2] else None

    async def revoke(self, id: str) -> None:
        await self._run("revoke_key", id)

    async def expire(self, id: str, at: float) -> None:
        await self._run("expire_key", id, at)

    async def used(self, times: Mapping[str, float]) -> None:
        pairs = [each for id, at in times.items() for each in (id, at)]
        await self._run("use_keys", *pairs)

    async def warnings(self) -> Sequence[str]:
        with suppress(StateUnavailable):  # for the store to say
            (made,) = await self._store.link.run(("HGET", self._key, "made"), certain=False)
            self._see(made)
        return [_GONE] if self._gone else []

    @property
    def _key(self) -> str:
        return self._store.key("keys")

    async def _run(self, script: str, *args: str | bytes | float, certain: bool = True) -> Reply:
        command = self._store.script(script, [self._key], *args)
        (said,) = await self._store.link.run(command, certain=certain)
        return said

    def _see(self, made: bytes | None) -> None:
        if self._made and made != self._made and not self._gone:
            self._gone = True
            log.warning(_GONE)
        self._made = made or self._made


def _load(id: bytes, stored: bytes, expires_at: bytes | None, used_at: bytes | None) -> Key | None:
    """None for one that was damaged, which must not hide the others."""
    try:
        sha256, _, told = stored.partition(b" ")
        owner, class_name, scopes, created_at = _keys.validate_json(told)
        return Key(
            load_id(id),
            sha256.decode(),
            owner,
            class_name,
            frozenset(scopes),
            created_at,
            float(expires_at) if expires_at else None,
            float(used_at) if used_at else None,
        )
    except (ValueError, ValidationError) as error:
        log.warning("a damaged key is left out", reason=str(error))
        return None


_DROP = """
local K = KEYS[1]
local function drop(id)
  local stored = redis.call('HGET', K, 'k:' .. id)
  if not stored then return false end
  redis.call('HDEL', K, 'k:' .. id, 'e:' .. id, 'u:' .. id, 's:' .. string.match(stored, '^%x*'))
  return true
end
"""

SCRIPTS = {
    # id, SHA-256, the rest, when it expires or nothing, how many there may be, how long expired ones are
    # kept, a name for the hash
    "add_key": _DROP
    + """
local id, sha, told, expires_at, most, kept, made = unpack(ARGV)
if redis.call('HEXISTS', K, 'k:' .. id) == 1 then return redis.call('HGET', K, 'made') end
local count, all = 0, redis.call('HGETALL', K)
for at = 1, #all, 2 do
  local kind, other = string.match(all[at], '^(%a):(.*)')
  if kind == 'k' then count = count + 1 end
  if kind == 'e' and (tonumber(all[at + 1]) or 0) < now() - tonumber(kept) and drop(other) then
    count = count - 1
  end
end
if count >= tonumber(most) then return 'full' end
redis.call('HSETNX', K, 'made', made)
redis.call('HSET', K, 'k:' .. id, sha .. ' ' .. told, 's:' .. sha, id)
if expires_at ~= '' then redis.call('HSET', K, 'e:' .. id, expires_at) end
return redis.call('HGET', K, 'made')
""",
    # id, time
    "expire_key": """
local field = 'e:' .. ARGV[1]
local before = tonumber(redis.call('HGET', KEYS[1], field) or '')
if redis.call('HEXISTS', KEYS[1], 'k:' .. ARGV[1]) == 1 and not (before and before < tonumber(ARGV[2])) then
  redis.call('HSET', KEYS[1], field, ARGV[2])
end
return 'done'
""",
    # SHA-256
    "find_key": """
local id = redis.call('HGET', KEYS[1], 's:' .. ARGV[1])
local made = redis.call('HGET', KEYS[1], 'made')
local found = redis.call('HMGET', KEYS[1], 'k:' .. (id or ''), 'e:' .. (id or ''), 'u:' .. (id or ''))
return {made, id, found[1], found[2], found[3]}
""",
    # id
    "revoke_key": _DROP + "drop(ARGV[1]) return 'done'",
    # id and time, any number
    "use_keys": """
for at = 1, #ARGV, 2 do
  local field = 'u:' .. ARGV[at]
  local before = tonumber(redis.call('HGET', KEYS[1], field) or '0')
  if redis.call('HEXISTS', KEYS[1], 'k:' .. ARGV[at]) == 1 and before < tonumber(ARGV[at + 1]) then
    redis.call('HSET', KEYS[1], field, ARGV[at + 1])
  end
end
return 'done'
""",
}
