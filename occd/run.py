"""`occd run`: one program, in the same sandbox as everybody's, on this terminal."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import trio

from occd.config import Config
from occd.errors import OccdError
from occd.languages import Language, find, for_file, load_languages
from occd.model import File, Outcome, Stream
from occd.sandbox import Job, Sandbox, no_signals, no_stdin, open_sandbox

_CHUNK = 65_536


async def run_file(
    config: Config, file: Path, stdin: Path | None, language_name: str | None, args: tuple[str, ...]
) -> int:
    """The exit code. Raises OccdError for what is ours or the caller's fault."""
    try:
        source = file.read_bytes()
        input_fd = stdin.open("rb") if stdin else sys.stdin.buffer
    except OSError as error:
        raise OccdError(f"cannot read {error.filename}: {error.strerror}") from error
    language = _language(file, language_name)
    async with open_sandbox(config, only=language.id) as sandbox:
        if language.id not in sandbox.available:
            raise OccdError(
                f"{language.name} is not installed here; to have it: {language.install}"
            )
        send, output = trio.open_memory_channel[tuple[Stream, bytes]](float("inf"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_print, output)
            with send:
                outcome = await _run(
                    sandbox, language, file.name, source, args, input_fd.fileno(), send
                )
    return _exit_code(outcome)


def _language(file: Path, name: str | None) -> Language:
    languages = load_languages()
    found = find(languages.values(), name) if name else for_file(languages.values(), file)
    if found is None:
        what = (
            f"{name!r} is no language"
            if name
            else f"the suffix {file.suffix!r} belongs to no language"
        )
        raise OccdError(f"{what}; --language takes one of {', '.join(languages)}")
    return found


async def _run(
    sandbox: Sandbox,
    language: Language,
    name: str,
    source: bytes,
    args: tuple[str, ...],
    stdin_fd: int,
    output: trio.MemorySendChannel[tuple[Stream, bytes]],
) -> Outcome:
    files = [File(name, source)]
    binary = sandbox.available[language.id][0].binary

    def job(template: tuple[str, ...], *, compiling: bool) -> Job:
        limits = language.compile_limits if compiling else language.limits
        argv = language.argv(template, binary, name, files, (), limits.memory)
        env = tuple(language.env.items())
        return Job(
            "compile" if compiling else "run", [*argv, *(() if compiling else args)], env, limits
        )

    def emit(stream: Stream, data: bytes) -> None:
        output.send_nowait((stream, data))

    async with sandbox.cell(language, files, language.limits) as cell:
        if language.compile:
            compile_job = job(language.compile, compiling=True)
            compiled = await cell.run(
                compile_job,
                no_stdin(),
                lambda _stream, data: emit("stderr", data),
                trio.Event(),
                no_signals(),
            )
            if not compiled.succeeded:
                return compiled
        async with trio.open_nursery() as nursery:
            send, stdin = trio.open_memory_channel[bytes](0)
            nursery.start_soon(_read, stdin_fd, send)
            with stdin:
                outcome = await cell.run(
                    job(language.run, compiling=False), stdin, emit, trio.Event(), no_signals()
                )
            nursery.cancel_scope.cancel()
    return outcome


async def _read(fd: int, send: trio.MemorySendChannel[bytes]) -> None:
    with suppress(trio.BrokenResourceError):
        async with send:
            while data := await trio.to_thread.run_sync(
                os.read, fd, _CHUNK, abandon_on_cancel=True
            ):
                await send.send(data)


async def _print(output: trio.MemoryReceiveChannel[tuple[Stream, bytes]]) -> None:
    """Print in a thread: a terminal that is held up must not hold up the watch over the program."""
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}

    def write(stream: Stream, data: bytes) -> None:
        with suppress(BrokenPipeError):  # `occd run … | head`
            streams[stream].write(data)
            streams[stream].flush()

    async for stream, data in output:
        await trio.to_thread.run_sync(write, stream, data)


def _exit_code(outcome: Outcome) -> int:
    if outcome.limit:
        print(f"occd: stopped at its limit of {outcome.limit.replace('_', ' ')}", file=sys.stderr)
        return 124
    if outcome.signal:
        print(f"occd: killed by {outcome.signal}", file=sys.stderr)
        base, _, above = outcome.signal.partition("+")
        return 128 + int(signal.Signals[base]) + int(above or 0)
    assert outcome.exit_code is not None
    return outcome.exit_code
