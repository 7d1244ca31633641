"""START HERE: opens what the configuration names, starts the roles, and stops them in order.

Theory of operation. Everything is a context inside the one before: data folder, broker, state,
sandbox, roles, HTTP edge. A role is a task that says when it is ready, ends when its `stopping` is
set and its work is done, and is cancelled at the deadline. The first SIGTERM or SIGINT drains in flow
order (submit refuses, execute finishes what runs, notify stores what that gave, ws says goodbye); the
second cancels. A role that dies takes the process with it: a supervisor restarts it, and nothing
that was accepted is lost.

This is the one module that names concrete classes.
"""

import gc
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio
from quart_trio import QuartTrio

from occd.broker import Broker, open_broker
from occd.config import Config
from occd.errors import ConfigError, OccdError, SandboxUnavailable
from occd.languages import load_languages
from occd.roles.execute import Execute
from occd.roles.notify import Notify
from occd.roles.submit import Submit
from occd.roles.ws import Ws
from occd.sandbox import Sandbox, open_sandbox, trial
from occd.sqlite import open_database
from occd.state import State, open_state
from occd.web.http11 import EdgeLimits
from occd.web.routes import Services, make_app
from occd.web.server import serve

log = structlog.get_logger()

_TRIAL_EVERY_S = 30.0


class Role(Protocol):
    stopping: trio.Event

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None: ...


@dataclass(slots=True)
class Running:
    """A role at work."""

    name: str
    role: Role
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            try:
                await self.role.run(task_status=task_status)
            finally:
                self.done.set()
        if not self.role.stopping.is_set():
            raise OccdError(f"the role {self.name} ended by itself")

    async def stop(self) -> None:
        self.role.stopping.set()
        await self.done.wait()


class Health:
    """Ready means that a job would run: it can be recorded, and one ran lately."""

    def __init__(self, state: State, sandbox: Sandbox | None, remedy: str | None) -> None:
        self._state = state
        self._sandbox = sandbox
        self._remedy = remedy
        self._tried_at = trio.current_time()
        self._failure: str | None = None
        self._trying = trio.Lock()

    async def problems(self) -> list[str]:
        found = [self._remedy] if self._remedy else []
        try:
            await self._state.check()
        except OccdError as error:
            found.append(str(error))
        if self._sandbox:
            await self._try(self._sandbox)
            if self._failure:
                found.append(self._failure)
        return found

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


async def run(config: Config) -> None:
    """Serve until told to stop. Raises OccdError with what to do when it cannot start, or dies."""
    stop, cancel = trio.Event(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        # Outside of what it cancels: a third signal must not meet Python's own handlers.
        await nursery.start(_watch_signals, stop, cancel)
        with cancel:
            async with _opened(config) as (broker, state, sandbox, remedy):
                await _serve(config, broker, state, sandbox, remedy, stop)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _opened(
    config: Config,
) -> AsyncIterator[tuple[Broker, State, Sandbox | None, str | None]]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(config.data_dir))
        broker = await stack.enter_async_context(open_broker(config, database))
        state = await stack.enter_async_context(open_state(config, database))
        cache = config.data_dir / "languages.json"
        try:
            sandbox = await stack.enter_async_context(open_sandbox(config, cache))
        except SandboxUnavailable as error:
            log.error("no program will be run", reason=str(error))
            yield broker, state, None, str(error)
        else:
            yield broker, state, sandbox, None


async def _serve(
    config: Config,
    broker: Broker,
    state: State,
    sandbox: Sandbox | None,
    remedy: str | None,
    stop: trio.Event,
) -> None:
    submit = Submit(config, broker, state, load_languages())
    ws = Ws(state, submit)
    roles = [
        Running("submit", submit),
        Running("notify", Notify(config, broker, state)),
        Running("ws", ws),
    ]
    if sandbox:
        roles.insert(1, Running("execute", Execute(config, broker, state, sandbox)))
    services = Services(submit, ws, Health(state, sandbox, remedy), ws.stopping)
    server_stopping = trio.Event()
    limits = EdgeLimits(
        body_max_bytes=config.http.body_max_bytes,
        frame_max_bytes=config.http.body_max_bytes + 65_536,
        connections_max=config.http.connections_max,
        head_timeout_s=config.http.head_timeout_s,
    )
    async with trio.open_nursery() as nursery:
        for role in reversed(roles):  # consumers first
            await nursery.start(role.run)
        bound: list[str] = await nursery.start(
            lambda task_status: _listen(
                config, make_app(config, services), limits, server_stopping, task_status
            )
        )
        _tune_collector()
        _introduce(bound, sandbox, remedy)
        await stop.wait()
        log.info("stopping", grace_s=config.grace_s)
        await _stop_in_order(roles, config.grace_s)
        server_stopping.set()


async def _listen(
    config: Config,
    app: QuartTrio,
    limits: EdgeLimits,
    stopping: trio.Event,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    try:
        await serve(
            app,
            [config.listen],
            limits,
            stopping=stopping,
            grace_s=config.grace_s,
            task_status=task_status,
        )
    except (OSError, ValueError) as error:  # what happens later comes in groups
        raise ConfigError(f"listen: {error.args[-1]}") from error


async def _stop_in_order(roles: list[Running], grace_s: float) -> None:
    deadline = trio.current_time() + grace_s
    for running in roles:
        with trio.move_on_at(deadline):
            await running.stop()
        running.scope.cancel()
        await running.done.wait()


async def _watch_signals(
    stop: trio.Event, cancel: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                cancel.cancel()
            stop.set()


def _tune_collector() -> None:
    """What start-up made stays: not looking at it again is worth a tenth of the rate of requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(0.001)  # the SQLite thread gives the GIL back often and wants it soon


def _introduce(bound: list[str], sandbox: Sandbox | None, remedy: str | None) -> None:
    if sandbox:
        names = [
            f"{language.name} {', '.join(each.version for each in sandbox.available[language.id])}"
            for language in sandbox.languages.values()
            if language.id in sandbox.available
        ]
        _say(f"occd: languages: {'; '.join(names) or 'none (see: occd languages)'}")
        for line in sandbox.isolation:
            _say(f"occd: isolation: {line}")
    else:
        _say(f"occd: NO PROGRAM WILL BE RUN: {remedy}")
    for address in bound:
        _say(f"occd: open http://{address}/")


def _say(line: str) -> None:
    """Seen at once where stdout is a file or a pipe, too."""
    print(line, flush=True)
