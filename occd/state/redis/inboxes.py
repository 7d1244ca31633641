"""Inboxes in Redis. A letter in the list is its number, its seat and its data. A number is the time at which
the letter was sent, in microseconds, or one more than the last number. So numbers rise also when the inbox
begins anew, and tell how old a letter is."""

from collections.abc import Sequence

import trio

from occd.errors import InboxFull, NodeGone
from occd.state import WATCH_BYTES
from occd.state.inbox import (
    INBOX_TTL_S,
    LETTER_BYTES,
    LETTERS_BYTES_MAX,
    LETTERS_MAX,
    RENEW_S,
    Letter,
    refuse_huge,
)
from occd.state.redis.connect import Reply
from occd.state.redis.store import RedisStore, refuse


class RedisInboxes:
    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def open(self, node: str) -> int:
        inbox = _inbox(node)
        (reader,) = await self._store.step("open_inbox", inbox, inbox, INBOX_TTL_S, self._store.me)
        return int(reader)

    async def send(self, node: str, seat: int, data: bytes) -> None:
        refuse_huge(data)
        inbox = _inbox(node)
        most = (LETTERS_MAX, LETTERS_BYTES_MAX)
        (said,) = await self._store.step(
            "send_letter", inbox, inbox, LETTER_BYTES, *most, seat, data
        )
        match said:
            case b"gone":
                raise NodeGone(node)
            case b"full":
                raise InboxFull(node)

    async def watch(self, node: str, reader: int, after: int) -> Sequence[Letter]:
        while True:
            with self._store.news.inbox.expected(_inbox(node)) as told:
                found = await self._read(node, reader, 0, after)
                if found:
                    parts = zip(found[::3], found[1::3], found[2::3], strict=True)
                    return [Letter(int(number), int(seat), data) for number, seat, data in parts]
                with trio.move_on_after(RENEW_S):
                    await told.wait()

    async def handled(self, node: str, reader: int, number: int) -> None:
        await self._read(node, reader, number, number)

    async def close(self, node: str, reader: int) -> None:
        (said,) = await self._store.step("close_inbox", _inbox(node), reader)
        refuse(node, said)

    async def _read(self, node: str, reader: int, handled: int, after: int) -> list[Reply]:
        """Drop what was handled; three replies for each letter beyond `after`. Raises Stale."""
        said, *found = await self._store.patiently(
            "letters",
            _inbox(node),
            reader,
            INBOX_TTL_S,
            self._store.me,
            handled,
            after,
            WATCH_BYTES,
            LETTER_BYTES,
        )
        refuse(node, said)
        return found


def _inbox(node: str) -> str:
    """Its name among subjects. No submission has a colon in its id."""
    return f"inbox:{node}"


_INBOX = """
local function micros() return math.floor(now() * 1000000) end
-- Number, seat and start of the data; nothing for what somebody else wrote. No number is in the future.
local function letter(each)
  local number, seat, start = string.match(each, '^(%d+) (%d+) ()')
  if not number or #number > 16 or #seat > 9 then return end
  if tonumber(number) > math.max(tonumber(get('last') or 0), micros()) then return end
  return number, seat, start
end
-- Drop the letters up to a number, and what somebody else wrote there.
local function drop(number, beside)
  while true do
    local first = redis.call('LINDEX', C, 0)
    if not first then return end
    local at, _, start = letter(first)
    if at and tonumber(at) > number then return end
    redis.call('LPOP', C)
    if at then redis.call('HINCRBY', H, 'bytes', start - 1 - #first - beside) end
  end
end
local function heard(ttl)
  for _, key in ipairs({H, C}) do redis.call('PEXPIRE', key, math.ceil(ttl * 1000)) end
end
"""

_SOURCES = {
    # inbox, seconds that it is kept, the inbox of the process
    "open_inbox": """
local reader = math.max(tonumber(get('reader') or 0) + 1, micros())
if get('inbox') then redis.call('PUBLISH', get('inbox'), ARGV[1]) end
redis.call('HSET', H, 'reader', string.format('%.0f', reader), 'inbox', ARGV[3])
heard(tonumber(ARGV[2]))
return {reader}
""",
    # inbox, bytes that a letter counts beside its data, most letters, most bytes, seat, data
    "send_letter": """
if not get('reader') then return {'gone'} end
local bytes = tonumber(get('bytes') or 0) + #ARGV[6] + tonumber(ARGV[2])
if redis.call('LLEN', C) >= tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) then return {'full'} end
local number = string.format('%.0f', math.max(tonumber(get('last') or 0) + 1, micros()))
redis.call('HSET', H, 'last', number, 'bytes', bytes)
control(ARGV[1], number .. ' ' .. ARGV[5] .. ' ' .. ARGV[6])
redis.call('PEXPIRE', C, redis.call('PTTL', H))
return {'done'}
""",
    # reader, seconds that inbox and letters are kept, the inbox of the process, number of the last letter
    # that was handled, number after which to read, bytes at most, bytes beside the data of a letter
    "letters": """
local known, reader, ttl = tonumber(get('reader') or 0), tonumber(ARGV[1]), tonumber(ARGV[2])
if known > reader then return {'stale'} end
if known < reader then redis.call('HSET', H, 'reader', ARGV[1], 'inbox', ARGV[3]) end
local beside = tonumber(ARGV[7])
drop(math.max(tonumber(ARGV[4]), micros() - ttl * 1000000), beside)
heard(ttl)
local found, size = {'done'}, 0
for _, each in ipairs(redis.call('LRANGE', C, 0, -1)) do
  local number, seat, start = letter(each)
  if number and tonumber(number) > tonumber(ARGV[5]) then
    local data = string.sub(each, start)
    for _, part in ipairs({number, seat, data}) do found[#found + 1] = part end
    size = size + #data + beside
    if size > tonumber(ARGV[6]) then break end
  end
end
return found
""",
    # reader
    "close_inbox": """
if tonumber(get('reader') or 0) > tonumber(ARGV[1]) then return {'stale'} end
redis.call('DEL', H, C)
return {'done'}
""",
}
SCRIPTS = {name: _INBOX + source for name, source in _SOURCES.items()}
