"""Whether jails can be made here now: by a trial job every 30 s, at once when a jail could not be made, and
then every 2 s until one can. A trial that hangs is a failed one: a kernel that is stuck says nothing."""

import structlog
import trio

from occd.errors import SandboxUnavailable
from occd.sandbox import Sandbox

log = structlog.get_logger()

_EVERY_S = 30.0
_AGAIN_S = 2.0
_HANGS_S = 4.0


class Fitness:
    def __init__(self, sandbox: Sandbox) -> None:
        """The sandbox has just run its first trial."""
        self._sandbox = sandbox
        self._problem: str | None = None
        self._doubted = trio.Event()
        self._concluded = trio.Event()

    @property
    def problem(self) -> str | None:
        """Why no program can be run now, in plain words."""
        return self._problem

    async def doubt(self) -> bool:
        """A jail could not be made: whether others can, by a new trial."""
        concluded = self._concluded
        self._doubted.set()
        await concluded.wait()
        return self._problem is None

    async def until(self, *, fit: bool) -> None:
        while (self._problem is None) != fit:
            await self._concluded.wait()

    async def run(self) -> None:
        """Try until cancelled."""
        while True:
            with trio.move_on_after(_AGAIN_S if self._problem else _EVERY_S):
                await self._doubted.wait()
            self._doubted = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_when_it_hangs)
                try:
                    await self._sandbox.trial()
                except SandboxUnavailable as error:
                    self._conclude(str(error))
                else:
                    self._conclude(None)
                nursery.cancel_scope.cancel()

    async def _tell_when_it_hangs(self) -> None:
        await trio.sleep(_HANGS_S)
        self._conclude(
            f"a trial job has not started for {_HANGS_S:.0f} s. The machine may be overloaded, or its kernel "
            "stuck: look for processes in state D (ps -eo pid,stat,wchan,args); then only a restart helps"
        )

    def _conclude(self, problem: str | None) -> None:
        if problem and not self._problem:
            log.error("no program can be run now", reason=problem)
        if self._problem and not problem:
            log.info("programs can be run again")
        self._problem = problem and f"Programs cannot be run now: {problem}"
        self._concluded.set()
        self._concluded = trio.Event()
