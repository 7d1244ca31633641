"""Events in Redis, and who follows them."""

from collections.abc import Sequence

from occd.errors import EventsReset, UnknownSubmission
from occd.events import Event, LogEntry
from occd.state import WATCH_BYTES
from occd.state.redis.news import Topic
from occd.state.redis.store import RedisStore, refuse
from occd.state.redis.values import load_events, store_event
from occd.trouble import Trouble


class RedisLog:
    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._trouble = Trouble("events wait for state")

    def followed(self, subject: str) -> bool:
        """Another process may."""
        return True

    async def append(self, subject: str, attempt: int, events: Sequence[Event]) -> None:
        step = self._store.step_command(
            "append",
            subject,
            self._store.channel(subject),
            attempt,
            self._store.me,
            self._store.next(),
            *map(store_event, events),
        )
        ((said, *_),) = await self._store.surely(self._trouble, subject, step)
        refuse(subject, said)

    async def entries(
        self, subject: str, after: int, bytes_max: int = WATCH_BYTES
    ) -> Sequence[LogEntry]:
        most = min(bytes_max, WATCH_BYTES)
        said, *rest = await self._store.step("events", subject, after, most, certain=False)
        refuse(subject, b"" if said == b"finished" else said)
        return load_events(subject, after, rest)[1]

    async def watch(self, subject: str, after: int) -> Sequence[LogEntry]:
        with self._store.news.topic(self._store.channel(subject)) as topic:
            log = topic.log
            while True:
                known = topic.beyond(after)
                if known is None and not topic.current(after):
                    known = await self._look(topic, subject, after)
                if log not in (0, topic.log):
                    raise EventsReset(subject)
                log = topic.log
                if known is not None:
                    return known
                if topic.current(after) or not topic.session:
                    await topic.changed()

    async def _look(self, topic: Topic, subject: str, after: int) -> list[LogEntry] | None:
        """The events beyond `after`. Empty when the log ended at `after`, None when no event has come."""
        session, tail = topic.session, topic.tail
        said, *rest = await self._store.patiently("events", subject, after, WATCH_BYTES)
        if said == b"unknown":
            raise UnknownSubmission(subject)
        which, found = load_events(subject, after, rest)
        last, ended = int(rest[0]), said == b"finished"
        topic.seen(session, tail, which, last, ended=ended)
        return found if found or ended else None


SCRIPTS = {
    # channel, attempt, sender, its number, events... The sender may try for as long as it takes, while
    # what it sends to stdin goes on: so the two are numbered apart.
    "append": """
local status = get('status')
if not status then return {'unknown'} end
if status == 'finished' then return {'finished'} end
if get('attempts') ~= ARGV[2] then return {'stale'} end
if count('appended ' .. ARGV[3]) >= tonumber(ARGV[4]) then return {'done'} end
redis.call('HSET', H, 'appended ' .. ARGV[3], ARGV[4])
local events = {}
for at = 5, #ARGV do events[#events + 1] = ARGV[at] end
if #events > 0 then append(ARGV[1], 0, events) end
return {'done'}
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
}
