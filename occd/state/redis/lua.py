"""What the steps that Redis carries out at once, in Lua, have in common.

Each step touches the keys of one submission only, which share the hash tag {id}, or one other key. Each would
therefore work on a cluster too. KEYS of a submission are always these four:

    1  a hash: what is known     2  a list: its events, of which the n-th is number n
    3  a list: its controls, of which the n-th is number first_control + n: more than n after an emptying
    4  a string: it was cancelled before it began; outlives the others, as its message may

Each step can be repeated after a lost connection. A step that is not idempotent by itself is given a nonce,
or a number that rises with each step of its sender (the link keeps the order), and recognizes its repetition.
Answers start with a word.
"""

PRELUDE = """
local H, E, C, W = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function get(field) return redis.call('HGET', H, field) end
-- A number of ours. What somebody else wrote there, or a damage, ends the step: the caller gets Unreadable.
local function count(field)
  local told = get(field) or '0'
  if not string.find(told, '^%d+$') or #told > 15 then error(field .. ' is no number of ours') end
  return tonumber(told)
end
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
-- Append controls and tell the process that runs the attempt.
local function control(id, ...)
  for _, each in ipairs({...}) do redis.call('RPUSH', C, each) end
  local inbox = get('inbox')
  if inbox then redis.call('PUBLISH', inbox, id) end
end
local function finish(channel, event, at, expire_at, nonce, verdict)
  redis.call('HSET', H, 'status', 'finished', 'finished_at', at, 'finished_by', nonce,
             'verdict', verdict)
  append(channel, 1, {event})
  redis.call('DEL', C)
  for _, key in ipairs({H, E}) do redis.call('PEXPIREAT', key, expire_at) end
end
"""
