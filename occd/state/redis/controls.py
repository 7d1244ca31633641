"""The clients' input and signals for programs, in Redis."""

from collections.abc import Sequence

from occd.errors import (
    FieldError,
    NotInteractive,
    NotRunning,
    Rejected,
    StdinFull,
)
from occd.state import SIGNALS_MAX, STDIN_UNREAD_MAX, Stdin
from occd.state.redis.store import RedisStore, refuse


class RedisControls:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def send_stdin(self, subject: str, data: bytes, offset: int | None, *, end: bool) -> None:
        said, *rest = await self._store.step(
            "send_stdin",
            subject,
            subject,
            "" if offset is None else offset,
            int(end),
            STDIN_UNREAD_MAX,
            self._store.me,
            self._store.next(),
            data,
        )
        match said:
            case b"not interactive":
                raise NotInteractive("this submission was not made with interactive: true")
            case b"ended":
                raise NotInteractive("its stdin has ended")
            case b"full":
                raise StdinFull(int(rest[0]))
            case b"gap":
                message = f"{offset} leaves a gap: {rest[0]} bytes have come so far"
                raise Rejected("stdin-gap", message, [FieldError("offset", message)])
        refuse(subject, said)

    async def stdin(self, subject: str, offset: int) -> Stdin:
        while True:
            with self._store.news.inbox.expected(f"i{subject}") as told:
                said, *rest = await self._store.patiently("stdin", subject, offset)
                if said == b"known" and (rest[0] or rest[1] == b"1"):
                    return Stdin(rest[0], ended=rest[1] == b"1")
                await told.wait()

    async def send_signal(self, subject: str, signal: str) -> None:
        said, *_ = await self._store.step(
            "send_signal", subject, subject, signal, SIGNALS_MAX, self._store.me, self._store.next()
        )
        match said:
            case b"queued":
                raise NotRunning(subject)
            case b"too many":
                raise Rejected("too-many", f"one attempt takes at most {SIGNALS_MAX} signals")
        refuse(subject, said)

    async def signals(self, subject: str, seen: int) -> Sequence[str]:
        while True:
            with self._store.news.inbox.expected(f"s{subject}") as told:
                if found := await self._store.patiently("signals", subject, seen):
                    return [each.decode(errors="replace") for each in found]
                await told.wait()

    async def cancelled(self, subject: str) -> None:
        while True:
            with self._store.news.inbox.expected(f"c{subject}") as told:
                command = ("HGET", self._store.keys(subject)[0], "cancelled")
                if await self._store.patiently_run(command):
                    return
                await told.wait()


SCRIPTS = {
    # id, offset or nothing, ends, most unread, sender, its number, data
    "send_stdin": """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then return {'finished'} end
if get('interactive') ~= '1' then return {'not interactive'} end
if ARGV[2] == '' and tonumber(get('sent ' .. ARGV[5]) or 0) >= tonumber(ARGV[6]) then return {'done'} end
local sent, data = (get('first_stdin') or 0) + redis.call('STRLEN', I), ARGV[7]
if ARGV[2] ~= '' then
  local offset = tonumber(ARGV[2])
  if offset > sent then return {'gap', sent} end
  data = string.sub(data, sent - offset + 1)
end
if data ~= '' then
  if get('stdin_ended') then return {'ended'} end
  local unread = sent - tonumber(get('stdin_read') or 0)
  if unread + #data > tonumber(ARGV[4]) then return {'full', unread} end
  redis.call('APPEND', I, data)
end
if ARGV[3] == '1' then redis.call('HSET', H, 'stdin_ended', 1) end
redis.call('HSET', H, 'sent ' .. ARGV[5], ARGV[6])
tell('i', ARGV[1])
return {'done'}
""",
    # offset
    "stdin": """
if redis.call('EXISTS', H) == 0 then return {'unknown'} end
redis.call('HSET', H, 'stdin_read', ARGV[1])
local data = redis.call('GETRANGE', I, ARGV[1] - (get('first_stdin') or 0), -1)
return {'known', data, get('stdin_ended') or '0'}
""",
    # seen
    "signals": """
return redis.call('LRANGE', S, ARGV[1] - (get('first_signal') or 0), -1)
""",
    # id, signal, most at once, sender, its number
    "send_signal": """
local status = get('status')
if not status then return {'unknown'} end
if status ~= 'running' then return {status} end
if tonumber(get('sent ' .. ARGV[4]) or 0) >= tonumber(ARGV[5]) then return {'done'} end
if redis.call('LLEN', S) >= tonumber(ARGV[3]) then return {'too many'} end
redis.call('HSET', H, 'sent ' .. ARGV[4], ARGV[5])
redis.call('RPUSH', S, ARGV[2])
tell('s', ARGV[1])
return {'done'}
""",
}
