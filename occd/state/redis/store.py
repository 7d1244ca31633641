"""Redis as all parts of state see it: the names of the keys, and how a step is sent and repeated."""

import time
from collections.abc import Mapping, Sequence

import trio

from occd.errors import (
    AlreadyFinished,
    Stale,
    StateError,
    StateUnavailable,
    UnknownSubmission,
    Unreadable,
)
from occd.state import NODE_TTL_S
from occd.state.redis.connect import Command, Reply
from occd.state.redis.link import Link
from occd.state.redis.news import News
from occd.state.redis.values import load_nodes
from occd.trouble import Trouble

LAYOUT = 2
"""The second form of the keys. PREFIX stands for the prefix of the configuration with this number."""

RETRY_S = 0.5


class RedisStore:
    can_be_emptied = True

    def __init__(
        self, prefix: str, link: Link, news: News, me: str, shas: Mapping[str, str]
    ) -> None:
        self._prefix = f"{prefix}{LAYOUT}"
        self._old_nodes = f"{prefix}:nodes"
        self._shas = shas
        self._number = 0
        self.link = link
        self.news = news
        self.me = me
        """The inbox of this process, which also names the process as a sender."""

    async def check(self) -> None:
        _, older = await self.link.run(
            ("SET", self.key("check"), time.time(), "EX", 60),
            self.script("nodes", [self._old_nodes], NODE_TTL_S),
        )
        if names := sorted(
            {node.name for node in load_nodes(older, (), (), (), unread=lambda _: None)}
        ):
            raise StateError(
                f"an older version of occd, which keeps its data in another form, still uses this Redis "
                f"({', '.join(names)}): stop all of its processes, then start the new ones"
            )

    async def warnings(self) -> Sequence[str]:
        try:
            info, keep = await self.link.run(
                ("INFO", "persistence"), ("INFO", "memory"), certain=False
            )
        except StateUnavailable as error:
            return [f"whether Redis keeps its data cannot be seen: {error}"]
        found = []
        if b"aof_enabled:0" in info:
            found.append(
                "Redis keeps no append-only file: when Redis dies, all changes of submissions and of "
                "created keys since its last snapshot are lost; set `appendonly yes` and `appendfsync always`"
            )
        elif (await self._setting("appendfsync")) not in (b"always", None):
            found.append(
                "Redis does not write through (appendfsync is not always): a power cut loses the changes "
                "of the last second or more; set `appendfsync always`"
            )
        if b"maxmemory:0\r" not in keep and b"maxmemory_policy:noeviction" not in keep:
            found.append(
                "Redis forgets submissions and keys when its memory is full (maxmemory-policy); set "
                "`maxmemory-policy noeviction`"
            )
        return found

    async def patiently(self, step: str, id: str, *args: str | bytes | float) -> list[Reply]:
        """Wait as long as it takes. The caller goes on when Redis is back."""
        while True:
            try:
                return await self.step(step, id, *args, certain=False)
            except StateUnavailable:
                await trio.sleep(RETRY_S)

    async def looks(self, looks: Sequence[Command]) -> list[Reply]:
        """What each finds. None for a key that was damaged, which must not hide the others."""
        try:
            return await self.link.run(*looks, certain=False)
        except Unreadable:
            if len(looks) == 1:
                return [None]
        return [found for look in looks for found in await self.looks([look])]

    async def surely(self, trouble: Trouble, id: str, *commands: Command) -> list[Reply]:
        """Send the very same step until Redis answers. Redis recognizes a step that it carried out late. The
        first command is the submission's own. The others change keys that lie elsewhere: when one of those
        was damaged, the submission goes on without them."""
        while True:
            try:
                done = await self.link.run(*commands)
            except Unreadable:
                if len(commands) == 1:
                    raise
                commands = commands[:1]
            except StateUnavailable as error:
                trouble.tell(error, submission=id)
                await trio.sleep(RETRY_S)
            else:
                trouble.over()
                return done

    async def step(
        self, name: str, id: str, *args: str | bytes | float, certain: bool = True
    ) -> list[Reply]:
        command = self.step_command(name, id, *args)
        found: list[Reply] = (await self.link.run(command, certain=certain))[0]
        return found

    def step_command(self, name: str, id: str, *args: str | bytes | float) -> Command:
        return self.script(name, self.keys(id), *args)

    def script(self, name: str, keys: Sequence[str], *args: str | bytes | float) -> Command:
        return ("EVALSHA", self._shas[name], len(keys), *keys, *args)

    def keys(self, id: str) -> list[str]:
        base = f"{self._prefix}:{{{id}}}"
        return [base, f"{base}:e", f"{base}:c", f"{base}:w"]

    def key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def channel(self, id: str) -> str:
        return f"{self._prefix}:e:{id}"

    def next(self) -> int:
        """A number above the number of every earlier step of this process. Call this as the step is sent."""
        self._number += 1
        return self._number

    async def _setting(self, name: str) -> bytes | None:
        """A setting of the server, or None when the server does not show its configuration."""
        try:
            (found,) = await self.link.run(("CONFIG", "GET", name), certain=False)
        except StateUnavailable:
            return None
        return found[1] if found else None


def refuse(id: str, said: bytes) -> None:
    match said:
        case b"unknown":
            raise UnknownSubmission(id)
        case b"finished":
            raise AlreadyFinished(id)
        case b"stale":
            raise Stale(id)
