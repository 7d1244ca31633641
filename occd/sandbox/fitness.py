"""Whether jails can be made here now.

A trial job runs every 30 s, and at once when a jail could not be made. After a failure it runs every 2 s
until one succeeds. A stuck kernel reports no error, so a jail or a trial that takes too long is a failure.
"""

import structlog
import trio

from occd.errors import SandboxUnavailable
from occd.sandbox import Sandbox
from occd.sandbox.waits import STUCK

log = structlog.get_logger()

_EVERY_S = 30.0
_AGAIN_S = 2.0
_TRIAL_S = 15.0
_LOOK_S = 0.5


class Fitness:
    def __init__(self, sandbox: Sandbox) -> None:
        """The sandbox has just run its first trial."""
        self._sandbox = sandbox
        self._problem: str | None = None
        self._trying_since: float | None = None
        self._doubted = trio.Event()
        self._concluded = trio.Event()

    @property
    def problem(self) -> str | None:
        """The reason why no program can be run now, in plain words."""
        return self._problem

    async def doubt(self) -> bool:
        """After a failure to make a jail: run a new trial. True when the trial succeeds."""
        concluded = self._concluded
        self._doubted.set()
        await concluded.wait()
        return self._problem is None

    async def until(self, *, fit: bool) -> None:
        while (self._problem is None) != fit:
            await self._concluded.wait()

    async def run(self) -> None:
        """Try until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                with trio.move_on_after(_AGAIN_S if self._problem else _EVERY_S):
                    await self._doubted.wait()
                self._doubted = trio.Event()
                self._trying_since = trio.current_time()
                problem = None
                try:
                    await self._sandbox.trial()
                except SandboxUnavailable as error:
                    problem = str(error)
                self._trying_since = None
                self._conclude(problem or self._stuck())

    async def _watch(self) -> None:
        while True:
            await trio.sleep(_LOOK_S)
            if stuck := self._stuck():
                if not self._problem:
                    self._doubted.set()  # so that the next trial comes soon
                self._conclude(stuck)

    def _stuck(self) -> str | None:
        since = self._trying_since
        if stuck := self._sandbox.stuck:
            return stuck
        if since is not None and trio.current_time() - since > _TRIAL_S:
            return f"a trial job has not ended for {_TRIAL_S:.0f} s. {STUCK}"
        return None

    def _conclude(self, problem: str | None) -> None:
        if problem and not self._problem:
            log.error("no program can be run now", reason=problem)
        if self._problem and not problem:
            log.info("programs can be run again")
        self._problem = problem and f"Programs cannot be run now: {problem}"
        self._concluded.set()
        self._concluded = trio.Event()
