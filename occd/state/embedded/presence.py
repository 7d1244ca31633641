"""Presence of followers in memory: the followers end with the process."""

from collections.abc import Collection

import trio

from occd.state.presence import PRESENT_S


class EmbeddedPresence:
    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    async def touch(self, subjects: Collection[str]) -> None:
        now = trio.current_time()
        self._until = {subject: until for subject, until in self._until.items() if until > now}
        self._until |= dict.fromkeys(subjects, now + PRESENT_S)

    async def here(self, subject: str) -> bool:
        return self._until.get(subject, 0.0) > trio.current_time()
