"""START HERE: opens the parts that the configuration names, starts the roles, and stops them in order.

Theory of operation. Each part is a context inside the part before: data folder, broker, state, sandbox,
roles, HTTP edge. A process has the configured roles, and opens only the parts that these roles need: the data
folder for the embedded broker and state, the sandbox for execute. A role is a task. It says when it is ready,
ends when its `stopping` is set and its work is done, and is cancelled at the deadline. The first SIGTERM or
SIGINT drains in flow order: submit refuses, execute finishes running programs, notify stores their results,
ws says goodbye. The second signal cancels. When a role dies, the process ends: a supervisor restarts the
process, and nothing that was accepted is lost.

This is the one module that names concrete classes.
"""

import gc
import math
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
import trio
from quart_trio import QuartTrio

from occd.administration import Administration
from occd.broker import Broker, check_broker_settings, open_broker
from occd.cancelling import cancel_all
from occd.commit import commit
from occd.config import ROLES, Config
from occd.datafile import make_folder
from occd.descriptors import share_descriptors
from occd.draining import Draining
from occd.errors import ConfigError, OccdError, SandboxUnavailable
from occd.health import Health
from occd.keyring import Keyring
from occd.languages import Language
from occd.languages.loading import load_languages, read_languages
from occd.levels import in_words, without_in_words
from occd.observed import FORM, Observed
from occd.overview import Overview
from occd.roles.execute import Execute
from occd.roles.notify import Notify
from occd.roles.submit import Submit
from occd.roles.ws import Ws
from occd.sandbox import Sandbox, check_sandbox_settings, open_sandbox
from occd.sqlite import open_database
from occd.state import State, check_state_settings, open_state
from occd.supervisor import tell_readiness, tell_stop
from occd.unixsocket import listening
from occd.web.access import Access
from occd.web.control import Administrators, ControlListener
from occd.web.host import Hosts, is_loopback
from occd.web.http11 import EdgeLimits, edge_limits
from occd.web.metrics import make_metrics_app
from occd.web.owner import Callers
from occd.web.people import People
from occd.web.routes import Services, make_app, make_control_app
from occd.web.server import Listener, address, open_listeners, serve, serve_on
from occd.web.signin import SignInService

log = structlog.get_logger()

_OPERATORS_CONNECTIONS = 16
_LAST_ANSWERS_S = 1.0
"""For last answers to clients whose programs ran until the grace was over."""


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


@dataclass(frozen=True, slots=True)
class Opened:
    """The parts that the roles of this process share. `remedy` says why no program is run here although
    execute is one of the roles."""

    broker: Broker
    state: State
    languages: dict[str, Language]
    provider: SignInService | None = None
    sandbox: Sandbox | None = None
    remedy: str | None = None


async def run(config: Config) -> None:
    """Serve until a signal stops us. Raises OccdError with the remedy when occd cannot start or dies."""
    stop, cancel = trio.Event(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        # Outside of the scope that it cancels: a third signal must not meet Python's own handlers.
        await nursery.start(_watch_signals, stop, cancel)
        with cancel:
            async with _opened(config) as opened:
                await _serve(config, opened, share_descriptors(config), stop)
        nursery.cancel_scope.cancel()


def check_settings(config: Config) -> None:
    """Raises ConfigError for settings that cannot work, as far as occd can tell without opening anything."""
    known = load_languages()
    if unknown := sorted(set(config.languages) - known.keys()):
        raise ConfigError(
            f"languages: {', '.join(unknown)}: not known; there are {', '.join(known)}"
        )
    check_broker_settings(config)
    check_state_settings(config)
    check_sandbox_settings(config)
    _provider(config)


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Opened]:
    check_settings(config)
    languages = load_languages()
    async with AsyncExitStack() as stack:
        database = None
        if config.rabbitmq is None or config.redis is None:
            database = await stack.enter_async_context(open_database(config.data_dir))
        broker = await stack.enter_async_context(open_broker(config, database))
        state = await stack.enter_async_context(open_state(config, database))
        opened = Opened(broker, state, languages, _provider(config))
        if "execute" in config.roles:
            try:
                sandbox = await stack.enter_async_context(
                    open_sandbox(config, _cache(config), soon=True)
                )
                opened = replace(opened, sandbox=sandbox, remedy=_broken_promise(config, sandbox))
            except SandboxUnavailable as error:
                # An engine may come to work: to be tried again. An image may have to be built.
                if config.sandbox.kind == "docker" or config.sandbox.images:
                    raise
                opened = replace(opened, remedy=str(error))
        yield opened


def _provider(config: Config) -> SignInService | None:
    """Of the role submit, which alone needs the secret. Raises ConfigError."""
    if "submit" not in config.roles or config.accounts is None or config.accounts.oidc is None:
        return None
    from occd.web.oidc import Provider

    return Provider(config)


def _cache(config: Config) -> Path:
    make_folder(config.data_dir)
    return config.data_dir / "languages.json"


def _broken_promise(config: Config, sandbox: Sandbox) -> str | None:
    """The reason when a promised language does not run here. This node then takes nothing from the queue."""
    absent = [sandbox.languages[id] for id in config.languages if id not in sandbox.available]
    if not absent:
        return None
    ids = " ".join(language.id for language in absent)
    return (
        f"languages that are promised are not installed on this node: {ids}. As root: "
        f"occd languages install {ids}"
    )


async def _serve(config: Config, opened: Opened, connections_max: int, stop: trio.Event) -> None:
    draining = Draining()
    submit = Submit(config, opened.broker, opened.state, opened.languages, draining)
    ws = Ws(opened.state, submit)
    execute = _execute(config, opened, draining)
    named = _roles(config, opened, submit, execute, ws)
    roles = [Running(name, role) for name, role in named.items()]
    submissions = opened.state.submissions
    keyring = Keyring(config, opened.state.keys, partial(cancel_all, submissions, submit.cancel))
    people = People(config, opened.state.sessions)
    access = Access(config, Callers(config, keyring.find, people), submissions.owner)
    fitness = execute.fitness if execute else None
    holds = opened.sandbox.holds if execute and opened.sandbox else None
    health = Health(opened.broker, opened.state, fitness, opened.remedy, draining, holds)
    arbiter = execute.arbiter if execute else None
    known = await trio.to_thread.run_sync(commit)
    observed = Observed(
        config, opened.broker, opened.state, health, draining, arbiter, fitness, known
    )
    overview = Overview(config, opened.broker, opened.state, health, opened.languages)
    services = Services(
        submit if "submit" in config.roles else None,
        ws if "ws" in config.roles else None,
        health,
        access,
        keyring,
        Administration(config, opened.broker, opened.state, draining),
        overview,
        people,
        opened.provider,
        ws.stopping,
    )
    server_stopping, deadline = trio.Event(), math.inf
    limits = edge_limits(config, connections_max)
    beside = [keyring.run, access.endings.run] if config.accounts else []
    if services.submit:
        beside.append(overview.run)
    control = make_control_app(
        config, services, Access(config, Administrators(), submissions.owner)
    )
    async with (
        _beside(observed.run, *beside),
        _at_control_socket(config, control),
        _metrics(config, observed),
        trio.open_nursery() as nursery,
    ):
        for role in reversed(roles):  # consumers first
            await nursery.start(role.run)
        bound: list[str] = await nursery.start(
            lambda task_status: _listen(
                config,
                make_app(config, services),
                limits,
                server_stopping,
                lambda: max(_LAST_ANSWERS_S, deadline - trio.current_time()),
                task_status,
            )
        )
        _tune_collector()
        _introduce(config, bound, opened)
        if "submit" in config.roles and config.accounts is None:
            await _tell_of_unused_keys(keyring)
        async with _beside(partial(tell_readiness, health.problems)):
            await stop.wait()
        submit.stopping.set()  # also where submit is no role here: ws submits through it
        log.info("stopping", grace_s=config.grace_s)
        await tell_stop(config.grace_s)
        deadline = trio.current_time() + config.grace_s
        try:
            await _stop_in_order(roles, deadline)
        finally:
            ws.stopping.set()  # ends all waiting, also where ws is no role here
            server_stopping.set()


@asynccontextmanager
async def _beside(*tasks: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """The tasks run inside, and are cancelled at the end."""
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _at_control_socket(config: Config, app: QuartTrio) -> AsyncIterator[None]:
    """Administrators of this machine reach the app while inside. Raises ConfigError when a socket was asked
    for and cannot be made."""
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(listening(config.control_socket))
        except (OSError, ConfigError) as error:
            words = (
                f"{config.control_socket}: {error.strerror}"
                if isinstance(error, OSError)
                else str(error)
            )
            if config.control.socket:
                raise ConfigError(f"control.socket: {words}") from error
            log.info("there is no control socket", reason=words)
            yield
            return
        async with _served(app, [ControlListener(listener)]):
            yield


@asynccontextmanager
async def _metrics(config: Config, observed: Observed) -> AsyncIterator[None]:
    """Prometheus finds the metrics while inside, unless another process has the address."""
    where = config.metrics.listen
    if where is None:
        yield
        return
    try:
        listeners = await open_listeners([where])
    except OSError as error:
        log.warning(
            "there are no metrics of this process",
            reason=str(error.args[-1]),
            remedy="set metrics.listen to a free address, or to null for none",
        )
        yield
        return
    _say(f"occd: metrics: http://{address(listeners[0])}/metrics")
    app = make_metrics_app(observed.text, FORM, Hosts(config, where))
    async with _served(app, listeners, makes_room=True):
        yield


@asynccontextmanager
async def _served(
    app: QuartTrio, listeners: Sequence[Listener], *, makes_room: bool = False
) -> AsyncIterator[None]:
    """For few clients, all of them operators."""
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: serve_on(
                app,
                listeners,
                EdgeLimits(connections_max=_OPERATORS_CONNECTIONS, makes_room=makes_room),
                stopping=stopping,
                left_s=lambda: _LAST_ANSWERS_S,
            )
        )
        yield
        stopping.set()


def _execute(config: Config, opened: Opened, draining: Draining) -> Execute | None:
    if opened.sandbox is None or opened.remedy:
        return None
    return Execute(config, opened.broker, opened.state, opened.sandbox, draining=draining)


def _roles(
    config: Config, opened: Opened, submit: Submit, execute: Execute | None, ws: Ws
) -> dict[str, Role]:
    """The roles of this process, in flow order."""
    roles: dict[str, Role] = {}
    if "submit" in config.roles:
        roles["submit"] = submit
    if execute:
        roles["execute"] = execute
    if "notify" in config.roles:
        roles["notify"] = Notify(config, opened.broker, opened.state)
    if "ws" in config.roles:
        roles["ws"] = ws
    return roles


async def _listen(
    config: Config,
    app: QuartTrio,
    limits: EdgeLimits,
    stopping: trio.Event,
    left_s: Callable[[], float],
    task_status: trio.TaskStatus[list[str]],
) -> None:
    try:
        await serve(
            app,
            [config.listen],
            limits,
            stopping=stopping,
            left_s=left_s,
            task_status=task_status,
        )
    except (OSError, ValueError) as error:  # errors after the start come in groups
        raise ConfigError(f"listen: {error.args[-1]}") from error


async def _stop_in_order(roles: list[Running], deadline: float) -> None:
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
    """Keep the objects of the start out of garbage collection, which gives a tenth more requests a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(0.001)  # the SQLite thread gives the GIL back often and wants it soon


def _introduce(config: Config, bound: list[str], opened: Opened) -> None:
    if opened.remedy:
        log.error("no program will be run", reason=opened.remedy)
        _say(f"occd: NO PROGRAM WILL BE RUN: {opened.remedy}")
    elif opened.sandbox:
        _say(f"occd: languages: {_found(opened.sandbox)}")
        for fault in read_languages().faults:
            log.warning("a language is left out", fault=fault)
        for line in opened.sandbox.isolation:
            _say(f"occd: isolation: {line}")
        holds = opened.sandbox.holds
        _say(f"occd: isolation: {in_words(holds)}{without_in_words(holds)}")
        if opened.sandbox.unforked:
            log.warning("jails are not forked", reason=opened.sandbox.unforked)
        for root, why in opened.sandbox.untraced.items() if config.sandbox.trace else ():
            _say(f"occd: no trace{root and f' in {root}'}: {why}")
    if set(config.roles) != set(ROLES):
        _say(f"occd: roles: {', '.join(config.roles)}")
    if {"submit", "ws"} & set(config.roles) and Hosts(config).any:
        _say(
            "occd: hosts: every name is answered, also that of a page that rebinds DNS; set http.hosts"
        )
    if {"submit", "ws"} & set(config.roles) and _is_open(config):
        _say(
            "occd: accounts: none, so everybody who reaches this port may run programs; see docs/accounts.md"
        )
    for where in bound:
        _say(f"occd: open http://{where}/" if "submit" in config.roles else
             f"occd: ready: http://{where}/readyz")  # fmt: skip
    if "submit" in config.roles and config.http.public_url:
        _say(f"occd: browsers find the page at {config.http.public_url}/")


def _found(sandbox: Sandbox) -> str:
    """The best known with their versions, and how many others there are."""
    available = sandbox.available
    names = [
        f"{language.name} {', '.join(each.version for each in available[id])}"
        for id, language in sandbox.languages.items()
        if id in available and language.support == "core"
    ]
    if others := len(available) - len(names):
        names.append(f"{others} others (see: occd languages)")
    return "; ".join(names) or "none (see: occd languages)"


async def _tell_of_unused_keys(keyring: Keyring) -> None:
    """Without accounts everybody may use everything. Whoever created keys did not want that."""
    with suppress(OccdError):
        if keys := await keyring.all():
            log.warning(
                "there are keys and no accounts",
                keys=len(keys),
                remedy="everybody may run programs; if that is wrong, see whether --config names the folder "
                "with accounts.yaml",
            )


def _is_open(config: Config) -> bool:
    return config.accounts is None and not is_loopback(config.listen.rpartition(":")[0].strip("[]"))


def _say(line: str) -> None:
    """Print the line and flush, so that it is seen at once where stdout is a file or a pipe."""
    print(line, flush=True)
