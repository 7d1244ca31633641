"""What principals use, in Redis. Each script touches the keys of one payer, and of the network above it if
there is one. They share a hash tag. For each of the two there are:

    1  a hash: each level with its limit and its time; `stored`, the sum of what is kept, and what of it is
       whose, as `b:ID`; `reserved`, the sum of what the members may store at most, and `r:ID`
    2  a sorted set: the members, by the time of their admission
    3  a sorted set: the submissions of which something is kept, by the time at which that goes

The set `admitted` has all members of all payers. It is changed before a member comes and after a member has
gone. Each process goes through it now and then, and removes the members that a death left. A member that is
removed twice, or admitted twice, changes nothing the second time.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import trio

from occd.errors import QuotaUsedUp, Unreadable
from occd.quotas import (
    HOUSEHOLDS,
    LIMIT_MAX,
    LONGEST_S,
    Payer,
    Quota,
    Used,
    lack_of,
    quotas_of,
    records_of,
)
from occd.state.quotas import LEFT_S
from occd.state.redis.connect import Command, Reply
from occd.state.redis.store import RedisStore
from occd.trouble import Trouble

_HEAL_EVERY_S = 60.0
_HEAL_AT_ONCE = 1000


class RedisQuotas:
    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._admitted = store.key("admitted")
        self._passed = 0

    async def admit(self, payer: Payer, stores: Mapping[str, int]) -> tuple[Quota, ...]:
        try:
            return await self.ask(payer, stores)
        except QuotaUsedUp as error:
            refused = error
        await self.forget(payer, stores)
        raise refused

    async def forget(self, payer: Payer, ids: Collection[str]) -> None:
        """Nobody admits these ids any more, and they are no members."""
        members = [_member(payer.name, id) for id in ids]
        await self._store.link.run(("ZREM", self._admitted, *members))

    async def ask(self, payer: Payer, stores: Mapping[str, int]) -> tuple[Quota, ...]:
        """`admit`. What is refused stays in the set of all members, for `forget` or for `heal`."""
        members = [_member(payer.name, id) for id in stores]
        limits = payer.allowance
        most = (
            limits.unfinished,
            limits.runs_per_minute,
            limits.cpu_seconds_per_hour,
            limits.cpu_seconds_per_day,
            limits.stored_bytes,
        )
        asked = ["" if each is None else each for each in most]
        asked += [each for one in stores.items() for each in one]
        commands = [self._script("admit", payer.name, *asked)]
        if stores:
            scored = [each for member in members for each in (time.time(), member)]
            commands.insert(0, ("ZADD", self._admitted, *scored))
        word, *numbers = (await self._store.link.run(*commands))[-1]
        parts = [numbers[at : at + 8] for at in range(0, len(numbers), 8)]
        shares = list(zip(payer.shares, map(_used, parts), strict=True))
        if word == b"admitted":
            return quotas_of(shares)
        lack = lack_of(shares, list(stores.values()))
        assert lack, "the script and `Used` have the same rules"
        raise QuotaUsedUp(lack, quotas_of(shares))

    async def give_back(self, payer: Payer, ids: Collection[str]) -> None:
        await self._store.link.run(
            *(each for id in ids for each in self.giving_back(payer.name, id))
        )

    def giving_back(self, payer: str, id: str) -> list[Command]:
        return self._leaving(payer, id, 0, 0, 0, 1)

    def settling(self, payer: str, id: str, cost: str) -> list[Command]:
        """`cost` is what `finish` has stored."""
        cpu_s, stored, until = _numbers(cost)
        return self._leaving(payer, id, cpu_s, int(stored), until, 0)

    def erasing(self, payer: str, id: str) -> list[Command]:
        return [self._script("unstore", payer, id)]

    async def heal(self) -> None:
        """Remove members that a death left, again and again."""
        trouble = Trouble("what was used will be looked through again")
        while True:
            await trio.sleep(_HEAL_EVERY_S)
            with trouble.survived():
                await self._heal()

    async def _heal(self) -> None:
        """Look at the next members that are old enough. Most of them wait or run."""
        page = ("LIMIT", self._passed, _HEAL_AT_ONCE)
        command = ("ZRANGE", self._admitted, "-inf", time.time() - LEFT_S, "BYSCORE", *page)
        (members,) = await self._store.link.run(command, certain=False)
        parts = [each.decode(errors="backslashreplace").partition(" ") for each in members]
        looks = [("HMGET", self._store.keys(id)[0], "status", "cost") for id, _, _ in parts]
        told = await self._store.looks(looks) if looks else []
        left = 0
        for member, (id, _, payer), found in zip(members, parts, told, strict=True):
            status, cost = found or (None, None)
            if status in (b"queued", b"running"):
                left += 1
                continue
            leaving = (
                self.settling(payer, id, (cost or b"").decode(errors="replace"))
                if status
                else self.giving_back(payer, id)
            )
            with suppress(Unreadable):  # somebody else wrote over the payer's record
                await self._store.link.run(*leaving)
            await self._store.link.run(("ZREM", self._admitted, member))
        self._passed = self._passed + left if len(members) == _HEAL_AT_ONCE else 0

    def _leaving(self, payer: str, id: str, *args: float) -> list[Command]:
        return [
            self._script("leave", payer, id, *args),
            ("ZREM", self._admitted, _member(payer, id)),
        ]

    def _script(self, name: str, payer: str, *args: str | float) -> Command:
        own, *above = records_of(payer)
        base = self._store.key(f"{{q:{above[0] if above else own}}}")
        records = [f"{base}:{own}", base] if above else [base]
        keys = [key for each in records for key in (each, f"{each}:m", f"{each}:s")]
        return self._store.script(name, keys, *args)


def _numbers(cost: str) -> Sequence[float]:
    """Somebody may have written over it."""
    try:
        cpu_s, stored, until = numbers = list(map(float, cost.split(" ")))
    except ValueError:
        return 0.0, 0.0, 0.0
    return (cpu_s, stored, until) if all(map(math.isfinite, numbers)) else (0.0, 0.0, 0.0)


def _used(numbers: Sequence[Reply]) -> Used:
    unfinished, runs, hour, day, stored, reserved, until, at = numbers
    return Used(
        float(at),
        int(unfinished),
        float(runs),
        float(hour),
        float(day),
        int(stored),
        int(reserved),
        float(until) if until else None,
    )


def _member(payer: str, id: str) -> str:
    """No id has a space."""
    return f"{id} {payer}"


_COMMON = """
local R, M, S
-- The record that all below is about: 1 is the payer's own, 2 that of the network above.
local RECORDS = #KEYS / 3
local function turn_to(record)
  R, M, S = KEYS[3 * record - 2], KEYS[3 * record - 1], KEYS[3 * record]
end
turn_to(1)
local at = now()
local HOUSEHOLDS, LONGEST, LIMIT_MAX = <numbers>
local WINDOWS = {runs = 60, hour = 3600, day = 86400}
local function exact(number) return string.format('%.17g', number) end
-- A level now, and the limit by which it sinks. Without a limit there is no level.
local function level(name)
  local used, limit, since = string.match(redis.call('HGET', R, name) or '', '^(%S+) (%S+) (%S+)$')
  used, limit, since = tonumber(used), tonumber(limit), tonumber(since)
  if not (used and limit and since) then return 0, nil end
  return math.max(0, used - math.max(0, at - since) * limit / WINDOWS[name]), limit
end
local function keep(name, used, limit)
  if limit then
    redis.call('HSET', R, name, exact(used) .. ' ' .. exact(limit) .. ' ' .. exact(at))
  else
    redis.call('HDEL', R, name)
  end
end
local function unstore(id)
  local bytes = redis.call('HGET', R, 'b:' .. id)
  redis.call('ZREM', S, id)
  if bytes then
    redis.call('HDEL', R, 'b:' .. id)
    redis.call('HINCRBY', R, 'stored', '-' .. bytes)
  end
end
-- The record goes when it says nothing any more.
local function last()
  if redis.call('ZCARD', M) > 0 then
    redis.call('PERSIST', R)
    redis.call('PERSIST', S)
    return
  end
  local longest = 0
  for name, window in pairs(WINDOWS) do
    local used, limit = level(name)
    if limit then longest = math.max(longest, used * window / limit) end
  end
  local kept = redis.call('ZRANGE', S, -1, -1, 'WITHSCORES')[2]
  if kept then longest = math.max(longest, tonumber(kept) - at) end
  local lasts = math.max(1, math.ceil(1000 * math.min(longest, LONGEST)))
  for _, key in ipairs({R, S}) do redis.call('PEXPIRE', key, lasts) end
end
""".replace("<numbers>", f"{HOUSEHOLDS}, {LONGEST_S:.0f}, {LIMIT_MAX}")

SCRIPTS = {
    # The limits of unfinished, runs, CPU an hour and a day, and stored bytes, each a number or nothing; ids,
    # each with the bytes that it may store at most
    "admit": _COMMON
    + """
local new, stores, found, fits, sum, largest = {}, {}, {}, true, 0, 0
for n = 6, #ARGV, 2 do
  if not redis.call('ZSCORE', M, ARGV[n]) then
    new[#new + 1], stores[ARGV[n]] = ARGV[n], ARGV[n + 1]
    sum, largest = sum + ARGV[n + 1], math.max(largest, ARGV[n + 1])
  end
end
for record = 1, RECORDS do
  turn_to(record)
  local most = {}
  for n = 1, 5 do most[n] = tonumber(ARGV[n]) end
  if record > 1 then for n, limit in pairs(most) do most[n] = math.min(limit * HOUSEHOLDS, LIMIT_MAX) end end
  local gone = redis.call('ZRANGE', S, '-inf', exact(at), 'BYSCORE', 'LIMIT', 0, 1000)
  for _, id in ipairs(gone) do unstore(id) end
  local unfinished, runs, hour, day = redis.call('ZCARD', M), level('runs'), level('hour'), level('day')
  local stored = tonumber(redis.call('HGET', R, 'stored') or 0)
  local reserved = tonumber(redis.call('HGET', R, 'reserved') or 0)
  fits = fits and (not most[1] or unfinished + #new <= most[1]) and (not most[2] or runs + #new <= most[2])
    and (not most[3] or hour < most[3]) and (not most[4] or day < most[4])
    and (not most[5] or stored + reserved + sum - largest < most[5])
  found[record] = {most = most, unfinished = unfinished, runs = runs, hour = hour, day = day, stored = stored,
                   reserved = reserved}
end
fits = fits or #new == 0
local told = {fits and 'admitted' or 'refused'}
for record = 1, RECORDS do
  turn_to(record)
  local it = found[record]
  if fits and #new > 0 then
    for _, id in ipairs(new) do
      redis.call('ZADD', M, exact(at), id)
      if tonumber(stores[id]) > 0 then
        redis.call('HSET', R, 'r:' .. id, stores[id])
        redis.call('HINCRBY', R, 'reserved', stores[id])
      end
    end
    it.unfinished, it.runs, it.reserved = it.unfinished + #new, it.runs + #new, it.reserved + sum
    keep('runs', it.runs, it.most[2])
    keep('hour', it.hour, it.most[3])
    keep('day', it.day, it.most[4])
    if it.most[5] then redis.call('HSETNX', R, 'stored', 0) end
    last()
  end
  local first = redis.call('ZRANGE', S, 0, 0, 'WITHSCORES')[2] or ''
  for _, each in ipairs({it.unfinished, exact(it.runs), exact(it.hour), exact(it.day), it.stored,
                         it.reserved, first, exact(at)}) do
    told[#told + 1] = each
  end
end
return told
""",
    # id, CPU seconds, bytes that are kept until a time, runs to give back
    "leave": _COMMON
    + """
local cpu, bytes, back = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
for record = 1, RECORDS do
  turn_to(record)
  if redis.call('ZREM', M, ARGV[1]) == 1 then
    local runs, most = level('runs')
    keep('runs', math.max(0, runs - back), most)
    for _, name in ipairs({'hour', 'day'}) do
      local used, limit = level(name)
      keep(name, used + cpu, limit)
    end
    local reserved = redis.call('HGET', R, 'r:' .. ARGV[1])
    if reserved then
      redis.call('HDEL', R, 'r:' .. ARGV[1])
      redis.call('HINCRBY', R, 'reserved', '-' .. reserved)
    end
    if bytes > 0 and redis.call('HEXISTS', R, 'stored') == 1 then
      redis.call('HSET', R, 'b:' .. ARGV[1], ARGV[3])
      redis.call('ZADD', S, ARGV[4], ARGV[1])
      redis.call('HINCRBY', R, 'stored', ARGV[3])
    end
    last()
  end
end
""",
    # id
    "unstore": _COMMON
    + """
for record = 1, RECORDS do
  turn_to(record)
  unstore(ARGV[1])
  last()
end
""",
}
