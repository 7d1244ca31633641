"""The steps that Redis carries out at once, in Lua.

Each touches the keys of one submission only, which share the hash tag {id}, or one other key; so each
would work on a cluster too. KEYS of a submission are always these five:

    1  a hash: what is known     2  a list: its events, of which the n-th is number n
    3  a string: its stdin       4  a list: signals for the attempt that runs
    5  a string: it was cancelled before it began; outlives the others, as its message may

Each can be repeated after a lost connection: a step that is not idempotent by itself is given a nonce, or
a number that rises with each step of its sender (the link keeps the order), and knows itself again.
Answers start with a word.
"""

from hashlib import sha1

_PRELUDE = """
local H, E, I, S, C = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local function get(field) return redis.call('HGET', H, field) end
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
-- Append events and tell them to those who follow: 'log first ended count[ lengths]' and a line's end,
-- then the events themselves, unless they are so many that whoever wants them had better fetch them. A log
-- that began anew has another number.
local function append(channel, ended, events)
  local count, size = 0, 0
  for _, event in ipairs(events) do
    count, size = redis.call('RPUSH', E, event), size + #event
  end
  local log = get('log')
  if not log then
    log = string.format('%.0f', now() * 1000000)
    redis.call('HSET', H, 'log', log)
  end
  local head = {log, count - #events + 1, ended, #events}
  if size > 65536 then
    redis.call('PUBLISH', channel, table.concat(head, ' ') .. '\\n')
  else
    for _, event in ipairs(events) do head[#head + 1] = #event end
    redis.call('PUBLISH', channel, table.concat(head, ' ') .. '\\n' .. table.concat(events))
  end
end
local function tell(what, id)
  local inbox = get('inbox')
  if inbox then redis.call('PUBLISH', inbox, what .. id) end
end
local function finish(channel, event, at, expire_at, nonce, verdict)
  redis.call('HSET', H, 'status', 'finished', 'finished_at', at, 'finished_by', nonce,
             'verdict', verdict)
  append(channel, 1, {event})
  for _, key in ipairs({H, E, I, S}) do redis.call('PEXPIREAT', key, expire_at) end
end
"""

_SOURCES = {
    # channel, body, created_at, key, language, interactive, event, retry_of
    "create": """
if redis.call('EXISTS', H) == 1 then return {'was there', get('published') or '0'} end
redis.call('HSET', H, 'body', ARGV[2], 'status', 'queued', 'attempts', 0, 'created_at', ARGV[3],
           'key', ARGV[4], 'language', ARGV[5], 'interactive', ARGV[6], 'retry_of', ARGV[8])
append(ARGV[1], 0, {ARGV[7]})
return {'new'}
""",
    "published": """
if redis.call('EXISTS', H) == 1 then redis.call('HSET', H, 'published', 1) end
""",
    "discard": """
if get('status') ~= 'queued' or get('published') then return {'kept'} end
local key = get('key')
redis.call('DEL', H, E, I, S)
return {'gone', key}
""",
    # channel, body, created_at, language, interactive, nonce, most attempts, now, inbox, event before and
    # after the attempt's number, bytes of stdin and signals that it has taken and attempts before it, if it
    # was forgotten, retry_of
    "begin": """
local status, attempts = get('status'), tonumber(get('attempts') or 0)
for attempt = attempts, 1, -1 do
  if get('begun' .. attempt) == ARGV[6] then return {'begun', attempt} end
end
if not status then
  if redis.call('EXISTS', C) == 1 then return {'finished', ''} end
  redis.call('HSET', H, 'body', ARGV[2], 'created_at', ARGV[3], 'key', '', 'language', ARGV[4],
             'interactive', ARGV[5], 'retry_of', ARGV[15])
  attempts = tonumber(ARGV[14])
end
local first_stdin, first_signal = 0, 0
if not status then first_stdin, first_signal = ARGV[12], ARGV[13] end
if status == 'finished' then return {'finished', get('key')} end
if attempts - tonumber(get('excused') or 0) >= tonumber(ARGV[7]) then return {'exhausted', attempts} end
attempts = attempts + 1
redis.call('HSET', H, 'status', 'running', 'attempts', attempts, 'published', 1,
           'first_stdin', first_stdin, 'stdin_read', first_stdin, 'first_signal', first_signal,
           'inbox', ARGV[9], 'begun' .. attempts, ARGV[6])
redis.call('HSETNX', H, 'started_at', ARGV[8])
redis.call('DEL', S)
append(ARGV[1], 0, {ARGV[10] .. attempts .. ARGV[11]})
redis.call('HSET', H, 'log_from', redis.call('LLEN', E))
return {'begun', attempts}
""",
    # attempt
    "excuse": """
if get('attempts') == ARGV[1] and redis.call('HSETNX', H, 'excused' .. ARGV[1], 1) == 1 then
  redis.call('HINCRBY', H, 'excused', 1)
end
""",
    # channel, attempt, sender, its number, events... The sender may try for as long as it takes, while
    # what it sends to stdin goes on: so the two are numbered apart.
    "append": """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then return {'finished'} end
if get('attempts') ~= ARGV[2] then return {'stale'} end
if tonumber(get('appended ' .. ARGV[3]) or 0) >= tonumber(ARGV[4]) then return {'done'} end
redis.call('HSET', H, 'appended ' .. ARGV[3], ARGV[4])
local events = {}
for at = 5, #ARGV do events[#events + 1] = ARGV[at] end
if #events > 0 then append(ARGV[1], 0, events) end
return {'done'}
""",
    # channel, attempt or nothing, nonce, now, expires at, event, verdict; and if nothing is known: body,
    # created_at, language, retry_of, its event, the events before that
    "finish": """
local status = get('status')
if not status then
  if ARGV[8] == '' then return {'dropped', ''} end
  redis.call('HSET', H, 'body', ARGV[8], 'attempts', ARGV[2], 'created_at', ARGV[9], 'key', '',
             'language', ARGV[10], 'published', 1, 'retry_of', ARGV[11])
  for at = 13, #ARGV do append(ARGV[1], 0, {ARGV[at]}) end
  finish(ARGV[1], ARGV[12], ARGV[4], ARGV[5], ARGV[3], ARGV[7])
  return {'done', ''}
elseif status == 'finished' then
  return {get('finished_by') == ARGV[3] and 'done' or 'dropped', get('key')}
elseif ARGV[2] ~= '' and ARGV[2] ~= get('attempts') then
  return {'dropped', ''}
end
finish(ARGV[1], ARGV[6], ARGV[4], ARGV[5], ARGV[3], ARGV[7])
return {'done', get('key')}
""",
    # channel, id, nonce, now, expires at, event, verdict, forgotten for ever at
    "cancel": """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then
  return {get('finished_by') == ARGV[3] and 'queued' or 'finished', get('key')}
end
redis.call('HSET', H, 'cancelled', 1)
if status == 'queued' then
  finish(ARGV[1], ARGV[6], ARGV[4], ARGV[5], ARGV[3], ARGV[7])
  redis.call('SET', C, 1, 'PXAT', ARGV[8])
else
  tell('c', ARGV[2])
end
return {status, get('key')}
""",
    # bytes of events at most. Gives, of what has finished, the last event, and the events of its attempt
    # before that if they are short and few.
    "get": """
local known = redis.call('HMGET', H, 'language', 'status', 'attempts', 'created_at', 'started_at', 'retry_of',
                         'log_from')
if not known[2] then return {'unknown'} end
local from, ends, size = tonumber(known[7] or 0), redis.call('LLEN', E) - 1, 0
local found = {'known', known[1], known[2], known[3], known[4], known[5] or '', known[6] or '', from, ''}
if known[2] ~= 'finished' then return found end
found[9] = redis.call('LINDEX', E, -1) or ''
if ends - from > 64 then return found end
for at = from, ends - 1, 4 do
  for _, event in ipairs(redis.call('LRANGE', E, at, math.min(at + 3, ends - 1))) do
    found[#found + 1], size = event, size + #event
  end
  if size > tonumber(ARGV[1]) then return {unpack(found, 1, 9)} end
end
return found
""",
    # after, bytes at most
    "events": """
local status, last = get('status'), redis.call('LLEN', E)
if not status then return {'unknown'} end
local after, size, found = tonumber(ARGV[1]), 0, {status, last, get('log') or '0'}
while after < last and size <= tonumber(ARGV[2]) do
  for _, event in ipairs(redis.call('LRANGE', E, after, math.min(after + 15, last - 1))) do
    if size > tonumber(ARGV[2]) then break end
    found[#found + 1], size, after = event, size + #event, after + 1
  end
end
return found
""",
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
    # The keys below are no submission's: KEYS[1] is what the name says.
    # An idempotency key: id and digest and time of whoever was first. id, digest, now, seconds to keep it
    # unless its submission's end says sooner
    "reserve": """
local earlier = redis.call('HMGET', KEYS[1], 'id', 'digest', 'at')
if earlier[1] then return earlier end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'digest', ARGV[2], 'at', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {ARGV[1], ARGV[2], ARGV[3]}
""",
    # id
    "release": """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then redis.call('DEL', KEYS[1]) end
""",
    # Those that wait. id, created_at; gives how many there are with it
    "enqueue": """
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return redis.call('ZCARD', KEYS[1])
""",
    # Nodes. name, what it says of itself
    "announce": """
local new = redis.call('HSET', KEYS[1], ARGV[1], string.format('%.3f', now()) .. ' ' .. ARGV[2])
return new == 1 and 'new' or 'known'
""",
    # seconds that they are believed
    "nodes": """
local oldest, found = now() - tonumber(ARGV[1]), {}
local said = redis.call('HGETALL', KEYS[1])
for at = 1, #said, 2 do
  local told_at = tonumber(string.match(said[at + 1], '^%S+') or '')
  if not told_at or told_at < oldest then
    redis.call('HDEL', KEYS[1], said[at])
  else
    found[#found + 1] = said[at + 1]
  end
end
return found
""",
}

SCRIPTS = {name: _PRELUDE + source for name, source in _SOURCES.items()}
SHAS = {name: sha1(text.encode()).hexdigest() for name, text in SCRIPTS.items()}  # noqa: S324
"""By which a script is called: Redis's own name for it, no protection of anything."""
