"""The checkers of a submission's tests: those that are built in, and programs of the author.

A program is compiled once, in a cell of its own, when the first test needs it, unless this node has compiled
the same program before (`compiling.py`). The cell never sees the files
of the solution. What the program does is its author's fault, never the solution's.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePath

import trio

from occd.execution import protocols
from occd.execution.checked import Checked
from occd.execution.compare import compare
from occd.execution.compiling import Compiler
from occd.execution.program import Program
from occd.execution.steps import Steps
from occd.judging import Judging, ProgramChecker, Test, TestVerdict
from occd.languages.finding import find
from occd.languages.installed import pick
from occd.model import File, Limits, Step
from occd.sandbox import Cell, Collect, Collected, Given, Packed, Sandbox, Tree

_COMPILE = Step("compile", "checker")
_LOG_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Ready:
    """A program that can check."""

    program: Program
    cell: Cell
    tree: Tree | Packed | None


class Checkers:
    """Use `open_checkers`."""

    def __init__(
        self,
        judging: Judging,
        sandbox: Sandbox,
        steps: Steps,
        compiler: Compiler,
        cells: AsyncExitStack,
    ) -> None:
        self._judging = judging
        self._sandbox = sandbox
        self._steps = steps
        self._compiler = compiler
        self._ready: dict[ProgramChecker, _Ready | Checked] = {}
        self._preparing = trio.Lock()
        self._cells = cells

    async def check(
        self, at: int, test: Test, given: bytes, output: bytes, stop: trio.Event
    ) -> Checked:
        """Check what the solution wrote in a test, where `given` was its stdin. `stop` ends a checker that
        runs."""
        checker = self._judging.checker_of(test)
        if not isinstance(checker, ProgramChecker):
            assert test.expected_stdout is not None
            return await compare(checker, test.expected_stdout, output)
        async with self._preparing:
            if checker not in self._ready:
                self._ready[checker] = await self._prepare(checker)
        ready = self._ready[checker]
        if isinstance(ready, Checked):
            return ready
        return await self._run(ready, checker, at, test, given, output, stop)

    async def _prepare(self, checker: ProgramChecker) -> _Ready | Checked:
        language = find(self._sandbox.languages, checker.language)
        versions = self._sandbox.available.get(language.id, ()) if language else ()
        installed = pick(versions, checker.version)
        if language is None or installed is None:
            name = " ".join(filter(None, (checker.language, checker.version)))
            message = f"{name} is not installed on this server any more."
            return Checked(TestVerdict.INTERNAL_ERROR, 0.0, message)
        program = Program(
            language, installed, checker.main, checker.files, protocols.compile_args(checker)
        )
        if not program.is_compiled:
            return _Ready(program, await self._cell(program, checker.files, checker.limits), None)
        compiler, box = self._compiler, checker.limits.box
        with await compiler.claim(program, _COMPILE, box) as claim:
            done = compiler.known(claim, _COMPILE, _LOG_BYTES)
            if done and not done.outcome.succeeded:
                return protocols.not_compiled(done.end_of_stderr.encode())
            cell = await self._cell(program, checker.files, checker.limits)
            done = done or await compiler.compile(
                claim, cell, program, _COMPILE, log_max=_LOG_BYTES
            )
            if not done.outcome.succeeded:
                return protocols.not_compiled(done.end_of_stderr.encode())
            return _Ready(program, cell, done.tree)

    async def _cell(self, program: Program, files: Sequence[File], limits: Limits) -> Cell:
        return await self._cells.enter_async_context(
            self._sandbox.cell(program.language, files, limits, program.installed.root)
        )

    async def _run(
        self,
        ready: _Ready,
        checker: ProgramChecker,
        at: int,
        test: Test,
        given: bytes,
        output: bytes,
        stop: trio.Event,
    ) -> Checked:
        call = protocols.call(checker, given, test.expected_stdout or b"", output)
        done = await self._steps.run(
            ready.cell,
            Step("check", "checker", at),
            ready.program.to_run(call.args, (), checker.limits),
            stdin=Given(call.stdin),
            tree=ready.tree,
            files=(*call.files, *_in_place(call.folder)),
            log_max=0,
            keep_stdout=True,
            collect=_feedback(call),
            stop=stop,
        )
        return protocols.checked(
            checker.protocol,
            done.outcome,
            done.stdout,
            done.stderr,
            _left(call, done.collected),
            test.weight,
        )


@asynccontextmanager
async def open_checkers(
    judging: Judging, sandbox: Sandbox, steps: Steps, compiler: Compiler
) -> AsyncIterator[Checkers]:
    """The cells of the programs end with the context."""
    async with AsyncExitStack() as cells:
        yield Checkers(judging, sandbox, steps, compiler, cells)


def _in_place(folder: str | None) -> list[File]:
    """A folder is there because a file is in it. No checker looks for this one."""
    return [File(f"{folder}/.keep", b"")] if folder else []


def _left(call: protocols.Call, collected: Collected) -> dict[str, bytes | None]:
    """The files that the checker left in its feedback folder. When there was too much to look through,
    nothing is known of the files that were not found."""
    left: dict[str, bytes | None] = {}
    for out in collected.left_out:
        names = call.feedback if out.reason == "entries" else [PurePath(out.name).name]
        left |= dict.fromkeys(names)
    return left | {PurePath(file.name).name: file.content for file in collected.files}


def _feedback(call: protocols.Call) -> Collect | None:
    if call.folder is None:
        return None
    names = [f"{call.folder}/{name}" for name in call.feedback]
    most = protocols.FEEDBACK_BYTES
    return Collect(names, files=len(names), file_bytes=most, bytes=most * len(names))
