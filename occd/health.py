"""Whether a job would run now, for `/readyz`."""

import trio

from occd.broker import Broker
from occd.errors import OccdError, SandboxUnavailable
from occd.sandbox import Sandbox, trial
from occd.state import State

_TRIAL_EVERY_S = 30.0


class Health:
    """Ready means that a job would run: it can be recorded and queued, and, where programs are run, one
    ran lately."""

    def __init__(
        self, broker: Broker, state: State, sandbox: Sandbox | None, remedy: str | None
    ) -> None:
        self._broker = broker
        self._state = state
        self._sandbox = sandbox
        self._remedy = remedy
        self._tried_at = trio.current_time()
        self._failure: str | None = None
        self._trying = trio.Lock()

    async def problems(self) -> list[str]:
        found = [self._remedy] if self._remedy else []
        for check in (self._broker.check, self._state.check):
            try:
                await check()
            except OccdError as error:
                found.append(str(error))
        if self._sandbox:
            await self._try(self._sandbox)
            if self._failure:
                found.append(self._failure)
        return found

    async def warnings(self) -> list[str]:
        return list(await self._state.warnings())

    async def _try(self, sandbox: Sandbox) -> None:
        async with self._trying:
            if not self._failure and trio.current_time() - self._tried_at < _TRIAL_EVERY_S:
                return
            try:
                await trial(sandbox)
                self._failure = None
            except SandboxUnavailable as error:
                self._failure = str(error)
            self._tried_at = trio.current_time()
