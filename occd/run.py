"""`occd run`: one program, in the same sandbox as everybody's, on this terminal.

Where somebody sits at our stdin, stdout and stderr, the program gets a terminal of its own, and ours passes
keys, output and the window's size on (`Screen`). Else the program gets pipes.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from occd import rules, wire
from occd.admission import Gate
from occd.config import Config
from occd.errors import OccdError
from occd.execution.precompiled import Precompiled
from occd.execution.program import Program
from occd.execution.steps import When, idle_time
from occd.execution.tail import Tail
from occd.execution.traced import account
from occd.languages import Language
from occd.languages.finding import for_file
from occd.languages.loading import language_named, load_languages
from occd.model import File, Limits, Outcome, Stream, Submission
from occd.principal import NOBODY
from occd.request import Request
from occd.sandbox import Feed, Run, Running, Sandbox, Sink, Traced, Tree, open_sandbox
from occd.screen import Screen, open_screen
from occd.trace import HERE

_CHUNK = 65_536
_SIGNALS_WAITING = 16
_ENDS: Mapping[str, str] = {
    "limit": "; there were more, untraced",
    "tracer_died": "; then the tracer died",
    "unreadable": "; the rest cannot be read",
    "no_python": ": the sandbox has no Python 3 that could trace",
    "not_permitted": ": this sandbox cannot trace",
}


async def run_file(
    config: Config,
    file: Path,
    stdin: Path | None,
    language_name: str | None,
    args: tuple[str, ...],
    *,
    trace: bool = False,
) -> int:
    """The exit code. Raises OccdError for what is ours or the caller's fault."""
    try:
        source = file.read_bytes()
        input_fd = stdin.open("rb") if stdin else sys.stdin.buffer
    except OSError as error:
        raise OccdError(f"cannot read {error.filename}: {error.strerror}") from error
    language = _language(file, language_name)
    main = File(_main_name(language, file.name), source)
    screen = None if stdin else open_screen()
    window = screen.window if screen else None
    request = Request(language.id, files=(main,), args=args, tty=window, trace=trace)
    keys = _Keys(at_terminal=screen is not None)
    async with trio.open_nursery() as nursery:
        await nursery.start(keys.listen)
        with keys.ending:
            outcome, limits = await _run_here(
                config, language, request, input_fd.fileno(), screen, keys, unread := trio.Event()
            )
        nursery.cancel_scope.cancel()
    if keys.ended_by:
        return 128 + keys.ended_by
    if unread.is_set() and outcome.signal:
        return 128 + signal.SIGPIPE
    return _exit_code(outcome, limits)


class _Keys:
    """Pass a signal to the running stage. While no stage runs, the signal ends us."""

    def __init__(self, *, at_terminal: bool) -> None:
        """A terminal that goes away must not leave us with modes that are not restored."""
        self._signals = [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]
        if at_terminal:
            self._signals.append(signal.SIGHUP)
        self.ending = trio.CancelScope()
        self.ended_by: int | None = None
        self._stage: trio.MemorySendChannel[int] | None = None

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*self._signals) as arriving:
            task_status.started()
            async for number in arriving:
                if self._stage:
                    with suppress(trio.WouldBlock, trio.BrokenResourceError):
                        self._stage.send_nowait(number)
                else:
                    self.ended_by = number
                    self.ending.cancel()

    @contextmanager
    def stage(self) -> Iterator[trio.MemoryReceiveChannel[int]]:
        """The signals for the stage that runs within."""
        self._stage, signals = trio.open_memory_channel[int](_SIGNALS_WAITING)
        with self._stage, signals:
            yield signals
        self._stage = None


async def _run_here(
    config: Config,
    language: Language,
    request: Request,
    stdin_fd: int,
    screen: Screen | None,
    keys: _Keys,
    unread: trio.Event,
) -> tuple[Outcome, Limits]:
    """How the last stage ended, and its limits. `unread` is set, and ends the program, when whoever read our
    output has left."""
    async with open_sandbox(config, only=language.id) as sandbox:
        if language.id not in sandbox.available:
            raise OccdError(
                f"{language.name} is not installed here; to have it, as root: "
                f"occd languages install {language.id}"
            )
        await Precompiled(config, sandbox).show()
        submission = await _gate(config, sandbox).admit(request, NOBODY)
        send, output = trio.open_memory_channel[tuple[Stream, bytes]](float("inf"))
        with screen.kept() if screen else nullcontext():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_print, output, screen, unread)
                with send:
                    ended = await _run(
                        sandbox, language, submission, stdin_fd, send, screen, keys, unread
                    )
    return ended


@dataclass(frozen=True, slots=True)
class _Here:
    """This process, as the only node."""

    languages: Mapping[str, tuple[str, ...]]
    roles: tuple[str, ...] = ("execute",)
    accepts: frozenset[str] = wire.FIELDS | {HERE}
    """Whether it can trace is seen when it has tried."""
    started_at: float = 0.0
    """Long ago: it has looked for the language."""


def _gate(config: Config, sandbox: Sandbox) -> Gate:
    """For this machine alone. What an installation promises is about its nodes, and no broker waits here."""
    languages = {
        name: tuple(each.version for each in versions)
        for name, versions in sandbox.available.items()
    }

    async def nodes() -> list[_Here]:
        return [_Here(languages)]

    return Gate(
        config.model_copy(update={"languages": (), "rabbitmq": None}), sandbox.languages, nodes
    )


def _main_name(language: Language, name: str) -> str:
    """The file's own name, unless a submission could not have it or a compiler would not know it."""
    try:
        rules.file_name(name)
    except rules.Broken:
        return language.file_name
    known = not language.compile or name.endswith(language.sources)
    return name if known else language.file_name


def _language(file: Path, name: str | None) -> Language:
    """Raises OccdError."""
    if name:
        return language_named(name)
    if found := for_file(load_languages().values(), file):
        return found
    raise OccdError(
        f"the suffix {file.suffix!r} belongs to no language; --language takes an id that "
        "`occd languages` lists"
    )


async def _run(
    sandbox: Sandbox,
    language: Language,
    submission: Submission,
    stdin_fd: int,
    output: trio.MemorySendChannel[tuple[Stream, bytes]],
    screen: Screen | None,
    keys: _Keys,
    unread: trio.Event,
) -> tuple[Outcome, Limits]:
    newest = sandbox.available[language.id][0]
    program = Program(language, newest, submission.main, submission.files)

    def show(stream: Stream, data: bytes) -> None:
        output.send_nowait((stream, data))

    def sink(limits: Limits, stream: Stream, tail: Tail, shown: Stream) -> Sink:
        def tell(data: bytes) -> None:
            tail.add(stream, data)
            show(shown, data)

        return Sink(limits.output, tell)

    async with sandbox.cell(language, submission.files, submission.limits, newest.root) as cell:
        tree: Tree | None = None
        if program.is_compiled:
            command = program.to_compile()
            limits = command.limits
            tail = Tail()
            with keys.stage() as signals:
                ended = await cell.run(
                    Run(
                        command.argv,
                        tuple(command.env),
                        limits,
                        stdout=sink(limits, "stdout", tail, "stderr"),
                        stderr=sink(limits, "stderr", tail, "stderr"),
                        stop=unread,
                        signals=signals,
                        keep=True,
                    )
                )
            compiled, tree = ended.outcome, ended.tree
            if hint := language.hint(compiled, tail.text):
                show("stderr", f"occd: {hint}\n".encode())
            if not compiled.succeeded:
                return compiled, limits
        limits = submission.limits
        command = program.to_run(submission.args, (), limits)
        tail = Tail()
        out: Stream = "tty" if screen else "stdout"
        async with trio.open_nursery() as nursery:
            send, stdin = trio.open_memory_channel[bytes](0)

            def runs(running: Running) -> None:
                """Called before anything of the program's output is read."""
                nursery.start_soon(_read, stdin_fd, send)
                if screen:
                    screen.give_keys()
                    nursery.start_soon(_resize, screen, running)

            with stdin, keys.stage() as signals:
                ended = await cell.run(
                    Run(
                        command.argv,
                        tuple(command.env),
                        limits,
                        stdout=sink(limits, out, tail, out),
                        stderr=sink(limits, "stderr", tail, "stderr"),
                        stdin=Feed(stdin),
                        tty=submission.tty,
                        stop=unread,
                        signals=signals,
                        idle=idle_time(limits),
                        tree=tree,
                        trace=submission.trace,
                    ),
                    task_status=When(runs),
                )
            if screen:
                screen.take_keys()
            if submission.trace:
                show("stderr", _account(ended.trace).encode())
            nursery.cancel_scope.cancel()
    return language.judged(ended.outcome, tail.text), limits


def _account(traced: Traced | None) -> str:
    """The system calls of a program, counted: those that were refused first."""
    trace, _ = account(traced or Traced("not_permitted", b""))
    lines = [f"occd: {trace.calls} system calls{_ENDS.get(trace.ended, '')}"]
    lines += [f"occd: {each.name}: not permitted here" for each in trace.counts if each.refused]
    if trace.counts:
        lines.append(f"{'times':>7} {'failed':>7} {'seconds':>11}  call")
    lines += [
        f"{each.count:>7} {each.failed or '':>7} {each.seconds:>11.6f}  {each.name}"
        for each in trace.counts
    ]
    return "\n".join(lines) + "\n"


async def _read(fd: int, send: trio.MemorySendChannel[bytes]) -> None:
    with suppress(trio.BrokenResourceError):
        async with send:
            while data := await trio.to_thread.run_sync(_chunk, fd, abandon_on_cancel=True):
                await send.send(data)


def _chunk(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError as error:
        raise OccdError(f"cannot read stdin: {error.strerror}") from error


async def _resize(screen: Screen, running: Running) -> None:
    """Give the program's window the size of ours, whenever ours changes, and at first: ours may have changed
    before the program ran."""
    with trio.open_signal_receiver(signal.SIGWINCH) as changes:
        while True:
            window = screen.window
            running.resize(window.rows, window.cols)
            await anext(changes)


async def _print(
    output: trio.MemoryReceiveChannel[tuple[Stream, bytes]],
    screen: Screen | None,
    unread: trio.Event,
) -> None:
    """Print in a thread: a terminal that is held up must not hold up the watch over the program."""
    stdout = sys.stdout.buffer
    streams = {"stdout": stdout, "stderr": sys.stderr.buffer, "tty": stdout}

    def write(stream: Stream, data: bytes) -> None:
        try:
            streams[stream].write(data)
            streams[stream].flush()
        except BrokenPipeError:  # `occd run … | head`
            raise
        except OSError as error:
            raise OccdError(f"cannot write {stream}: {error.strerror}") from error

    async for stream, data in output:
        if screen and stream == "tty":
            screen.show_as_it_is()
        try:
            await trio.to_thread.run_sync(write, stream, data)
        except BrokenPipeError:
            unread.set()


def _exit_code(outcome: Outcome, limits: Limits) -> int:
    if outcome.limit:
        told = rules.met(outcome.limit, getattr(limits, outcome.limit))
        print(f"occd: stopped at its limit of {told}", file=sys.stderr)
        return 124
    if outcome.tty and outcome.signal == signal.SIGINT.name:
        return 128 + signal.SIGINT  # whoever typed Ctrl-C knows
    if outcome.signal:
        print(f"occd: killed by {outcome.signal}", file=sys.stderr)
        base, _, above = outcome.signal.partition("+")
        return 128 + int(signal.Signals[base]) + int(above or 0)
    assert outcome.exit_code is not None
    return outcome.exit_code
