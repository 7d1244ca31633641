"""Controls in Redis. A control in the list is one letter for its kind, and what belongs to it."""

import re
from collections.abc import Sequence

from occd.errors import FieldError, NoTerminal, NotInteractive, NotRunning, Rejected, StdinFull
from occd.events import Unknown
from occd.model import Terminal
from occd.state import (
    CONTROL_BYTES,
    RESIZES_MAX,
    SIGNALS_MAX,
    STDIN_MAX,
    STDIN_UNREAD_MAX,
    WATCH_BYTES,
    WRITERS_MAX,
)
from occd.state.control import (
    Cancel,
    Control,
    ControlEntry,
    End,
    Resize,
    Signal,
    Stdin,
    load_window,
    store_window,
)
from occd.state.redis.store import RedisStore, refuse

_STDIN = re.compile(rb"i(\d{1,18}) (.*)", re.DOTALL)


class RedisControls:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def send_stdin(
        self, subject: str, data: bytes, offset: int | None, *, end: bool, writer: str = ""
    ) -> None:
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
            STDIN_MAX,
            CONTROL_BYTES,
            writer,
            WRITERS_MAX,
        )
        match said:
            case b"not interactive":
                raise NotInteractive("this submission was not made with interactive: true")
            case b"ended":
                raise NotInteractive("its stdin has ended")
            case b"full":
                raise StdinFull(int(rest[0]))
            case b"too much":
                raise Rejected("too-many", f"a program takes at most {STDIN_MAX} bytes of stdin")
            case b"too many":
                raise Rejected("too-many", f"a program has at most {WRITERS_MAX} writers")
            case b"gap":
                message = f"{offset} leaves a gap: {rest[0]} bytes have come so far"
                raise Rejected("stdin-gap", message, [FieldError("offset", message)])
        refuse(subject, said)

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

    async def send_resize(self, subject: str, window: Terminal) -> None:
        said, *_ = await self._store.step(
            "send_resize",
            subject,
            subject,
            store_window(window),
            RESIZES_MAX,
            self._store.me,
            self._store.next(),
        )
        match said:
            case b"no terminal":
                raise NoTerminal(subject)
            case b"queued":
                raise NotRunning(subject)
            case b"too many":
                message = f"one attempt takes at most {RESIZES_MAX} sizes of its window"
                raise Rejected("too-many", message)
        refuse(subject, said)

    async def watch(self, subject: str, after: int) -> Sequence[ControlEntry]:
        while True:
            with self._store.news.inbox.expected(subject) as told:
                found = await self._store.patiently("controls", subject, after, WATCH_BYTES)
                if found:
                    pairs = zip(found[::2], found[1::2], strict=True)
                    return [ControlEntry(number, _control(stored)) for number, stored in pairs]
                await told.wait()

    async def took(self, subject: str, stdin: int) -> None:
        await self._store.patiently("took", subject, stdin)


def _control(stored: bytes) -> Control:
    match stored[:1]:
        case b"i" if typed := _STDIN.fullmatch(stored):
            return Stdin(int(typed[1]), typed[2])
        case b"e":
            return End()
        case b"s":
            return Signal(stored[1:].decode(errors="replace"))
        case b"w" if window := load_window(stored[1:]):
            return Resize(window)
        case b"c":
            return Cancel()
    return Unknown()


SCRIPTS = {
    # id, offset or nothing, ends, most unread, sender, its number, data, most, what a control counts,
    # writer or nothing, most writers
    "send_stdin": """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then return {'finished'} end
if get('interactive') ~= '1' then return {'not interactive'} end
local sent, data, new = count('stdin_sent'), ARGV[7], {}
local named = ARGV[10] ~= '' and 'typed ' .. ARGV[10]
local before = named and count(named) or sent
if ARGV[2] == '' then
  if count('sent ' .. ARGV[5]) >= tonumber(ARGV[6]) then return {'done'} end
else
  local offset = tonumber(ARGV[2])
  if offset > before then return {'gap', before} end
  data = string.sub(data, before - offset + 1)
end
if data ~= '' then
  if get('stdin_ended') then return {'ended'} end
  local unread = sent - count('stdin_read')
  if unread + #data > tonumber(ARGV[4]) then return {'full', unread} end
  local size = sent + #data + tonumber(ARGV[9]) * (redis.call('LLEN', C) + 1)
  if size > tonumber(ARGV[8]) then return {'too much'} end
  if named and before == 0 then
    if count('writers') >= tonumber(ARGV[11]) then return {'too many'} end
    redis.call('HINCRBY', H, 'writers', 1)
  end
  redis.call('HINCRBY', H, 'stdin_sent', #data)
  if named then redis.call('HINCRBY', H, named, #data) end
  new[1] = string.format('i%.0f ', sent) .. data
end
if ARGV[3] == '1' and redis.call('HSETNX', H, 'stdin_ended', 1) == 1 then new[#new + 1] = 'e' end
redis.call('HSET', H, 'sent ' .. ARGV[5], ARGV[6])
control(ARGV[1], unpack(new))
return {'done'}
""",
    # id, signal, most for an attempt, sender, its number
    "send_signal": """
local status = get('status')
if not status then return {'unknown'} end
if status ~= 'running' then return {status} end
if count('sent ' .. ARGV[4]) >= tonumber(ARGV[5]) then return {'done'} end
if count('signals') >= tonumber(ARGV[3]) then return {'too many'} end
redis.call('HINCRBY', H, 'signals', 1)
redis.call('HSET', H, 'sent ' .. ARGV[4], ARGV[5])
control(ARGV[1], 's' .. ARGV[2])
return {'done'}
""",
    # id, rows and columns, most for an attempt, sender, its number
    "send_resize": """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then return {'finished'} end
if get('tty') ~= '1' then return {'no terminal'} end
if status ~= 'running' then return {status} end
if count('sent ' .. ARGV[4]) >= tonumber(ARGV[5]) then return {'done'} end
if count('resizes') >= tonumber(ARGV[3]) then return {'too many'} end
redis.call('HINCRBY', H, 'resizes', 1)
redis.call('HSET', H, 'sent ' .. ARGV[4], ARGV[5])
control(ARGV[1], 'w' .. ARGV[2])
return {'done'}
""",
    # after, bytes at most, of which a control counts 64 beside its own. Gives numbers and controls, without
    # the signals for earlier attempts
    "controls": """
if redis.call('EXISTS', H) == 0 then return {} end
local first, signals_from = count('first_control'), count('signals_from')
local at, last, size, found = math.max(ARGV[1] - first, 0), redis.call('LLEN', C), 0, {}
while at < last and size <= tonumber(ARGV[2]) do
  for _, each in ipairs(redis.call('LRANGE', C, at, math.min(at + 15, last - 1))) do
    at = at + 1
    if string.sub(each, 1, 1) ~= 's' or first + at > signals_from then
      table.insert(found, first + at)
      table.insert(found, each)
      size = size + #each + 64
    end
    if size > tonumber(ARGV[2]) then break end
  end
end
return found
""",
    # bytes of stdin
    "took": """
if redis.call('EXISTS', H) == 1 then redis.call('HSET', H, 'stdin_read', ARGV[1]) end
return {}
""",
}
