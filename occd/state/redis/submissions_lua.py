"""The steps of submissions that Redis carries out at once (`lua.py`)."""

_OWING = """
-- Note what the submission costs: CPU seconds, and bytes that are kept until a time.
local function owe(cpu, bytes, gone_at)
  if get('payer') then
    local size = string.format('%.0f', bytes + redis.call('HSTRLEN', H, 'body'))
    redis.call('HSET', H, 'cost', cpu .. ' ' .. size .. ' ' .. gone_at)
  end
end
-- An answer, with whom to charge and how much.
local function owing(said)
  return {said, get('key'), get('payer') or '', get('cost') or ''}
end
"""

SUBMISSIONS = {
    # channel, body, created_at, key, language, interactive, event, retry_of, tty, owner, payer
    "create": """
if redis.call('EXISTS', H) == 1 then return {'was there', get('published') or '0'} end
redis.call('HSET', H, 'body', ARGV[2], 'status', 'queued', 'attempts', 0, 'created_at', ARGV[3],
           'key', ARGV[4], 'language', ARGV[5], 'interactive', ARGV[6], 'retry_of', ARGV[8],
           'tty', ARGV[9], 'owner', ARGV[10])
if ARGV[11] ~= '' then redis.call('HSET', H, 'payer', ARGV[11]) end
append(ARGV[1], 0, {ARGV[7]})
return {'new'}
""",
    "published": """
if redis.call('EXISTS', H) == 1 then redis.call('HSET', H, 'published', 1) end
""",
    "discard": """
if redis.call('EXISTS', H) == 0 then return {'gone', '', ''} end
if get('status') ~= 'queued' or get('published') then return {'kept'} end
local key, payer = get('key'), get('payer') or ''
redis.call('DEL', H, E, C)
return {'gone', key, payer}
""",
    # channel, body, created_at, language, interactive, nonce, most attempts, now, inbox, event before and
    # after the attempt's number; if it was forgotten, the bytes of stdin and the last control that it
    # has got, and the attempts before it; retry_of, tty,
    # QUEUED, owner, and the seconds that the result waits for the attempt's log if that follows
    "begin": """
local status, attempts = get('status'), count('attempts')
for attempt = attempts, math.max(1, attempts - 100), -1 do
  if get('begun' .. attempt) == ARGV[6] then return {'begun', attempt} end
end
if not status then
  if redis.call('EXISTS', W) == 1 then return {'finished', ''} end
  redis.call('HSET', H, 'body', ARGV[2], 'created_at', ARGV[3], 'key', '', 'language', ARGV[4],
             'interactive', ARGV[5], 'retry_of', ARGV[15], 'stdin_sent', ARGV[12],
             'first_control', ARGV[13], 'tty', ARGV[16], 'owner', ARGV[18])
  attempts = tonumber(ARGV[14])
  if attempts == 0 then append(ARGV[1], 0, {ARGV[17]}) end
end
if status == 'finished' then return {'finished', get('key')} end
if attempts - count('excused') >= tonumber(ARGV[7]) then return {'exhausted', attempts} end
attempts = attempts + 1
if not status and ARGV[19] ~= '' then
  redis.call('HSET', H, 'whole_by' .. attempts, string.format('%.3f', now() + ARGV[19]))
end
redis.call('HSET', H, 'status', 'running', 'attempts', attempts, 'published', 1,
           'stdin_read', status and 0 or ARGV[12], 'signals', 0, 'resizes', 0,
           'signals_from', count('first_control') + redis.call('LLEN', C),
           'inbox', ARGV[9], 'begun' .. attempts, ARGV[6])
redis.call('HSETNX', H, 'started_at', ARGV[8])
append(ARGV[1], 0, {ARGV[10] .. attempts .. ARGV[11]})
redis.call('HSET', H, 'log_from', redis.call('LLEN', E))
return {'begun', attempts}
""",
    # attempt
    "whole": """
redis.call('HDEL', H, 'whole_by' .. ARGV[1])
""",
    # attempt
    "excuse": """
if get('attempts') == ARGV[1] and redis.call('HSETNX', H, 'excused' .. ARGV[1], 1) == 1 then
  redis.call('HINCRBY', H, 'excused', 1)
end
""",
    # channel, attempt or nothing, nonce, now, expires at, event, verdict, CPU seconds, bytes and until when
    # they are kept; and if nothing is known: body, created_at, language, retry_of, its event, owner, the
    # events before that
    "finish": _OWING
    + """
local status, whole_by = get('status'), tonumber(get('whole_by' .. ARGV[2]) or '')
if whole_by and status ~= 'finished' and ARGV[2] == get('attempts') then
  if whole_by > now() then return {'later', string.format('%.3f', whole_by - now() + 0.001), '', ''} end
  if ARGV[11] ~= '' then -- half of a log is all that is known
    redis.call('DEL', H, E)
    status = false
  end
end
if not status then
  if ARGV[11] == '' or redis.call('EXISTS', W) == 1 then return {'dropped', '', '', ''} end
  redis.call('HSET', H, 'body', ARGV[11], 'attempts', ARGV[2], 'created_at', ARGV[12], 'key', '',
             'language', ARGV[13], 'published', 1, 'retry_of', ARGV[14], 'owner', ARGV[16])
  for at = 17, #ARGV do append(ARGV[1], 0, {ARGV[at]}) end
  finish(ARGV[1], ARGV[15], ARGV[4], ARGV[5], ARGV[3], ARGV[7])
  return {'done', '', '', ''}
elseif status == 'finished' then
  return owing(get('finished_by') == ARGV[3] and 'done' or 'dropped')
elseif ARGV[2] ~= '' and ARGV[2] ~= get('attempts') then
  return {'dropped', '', '', ''}
end
owe(ARGV[8], ARGV[9], ARGV[10])
finish(ARGV[1], ARGV[6], ARGV[4], ARGV[5], ARGV[3], ARGV[7])
return owing('done')
""",
    # channel, id, nonce, now, expires at, event, verdict, forgotten for ever at, CPU seconds, bytes and until
    # when they are kept
    "cancel": _OWING
    + """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then
  return owing(get('finished_by') == ARGV[3] and 'queued' or 'finished')
end
local first = redis.call('HSETNX', H, 'cancelled', 1) == 1
if status == 'queued' then
  owe(ARGV[9], ARGV[10], ARGV[11])
  finish(ARGV[1], ARGV[6], ARGV[4], ARGV[5], ARGV[3], ARGV[7])
  redis.call('SET', W, 1, 'PXAT', ARGV[8])
elseif first then
  control(ARGV[2], 'c')
end
return owing(status)
""",
    # nonce, forgotten for ever at
    "erase": """
local status = get('status')
if not status then return {redis.call('GET', W) == ARGV[1] and 'gone' or 'unknown', ''} end
if status ~= 'finished' then return {'kept', ''} end
local key = get('key')
redis.call('DEL', H, E, C)
redis.call('SET', W, ARGV[1], 'PXAT', ARGV[2])
return {'gone', key}
""",
    # bytes of events at most. Gives, of what has finished, the last event, and the events of its attempt
    # before that if they are short and few.
    "get": """
local known = redis.call('HMGET', H, 'language', 'status', 'attempts', 'created_at', 'started_at', 'retry_of')
if not known[2] then return {'unknown'} end
local from, ends, size = count('log_from'), redis.call('LLEN', E) - 1, 0
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
}

INDEXES = {  # KEYS[1] is what the name says
    # An idempotency key: id and digest and time of whoever was first. id, digest, now, seconds to keep it
    # unless its submission's end says sooner
    "reserve": """
local earlier = redis.call('HMGET', KEYS[1], 'id', 'digest', 'at')
if earlier[1] then
  if earlier[1] ~= ARGV[1] then redis.call('HSET', KEYS[1], 'again', 1) end
  return earlier
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'digest', ARGV[2], 'at', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {ARGV[1], ARGV[2], ARGV[3]}
""",
    # id; gives whether nobody else may use the id for the same request
    "refuse": """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] and redis.call('HEXISTS', KEYS[1], 'again') == 0 then
  return redis.call('DEL', KEYS[1])
end
return 0
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
}
