"""`occd warm`: makes now what compilations have in common. `occd doctor`: tells of it, and of templates."""

from pathlib import Path

import click
import trio

from occd.config import Config
from occd.errors import OccdError, SandboxFailed
from occd.execution.precompiled import Part, Precompiled
from occd.execution.program import Program
from occd.languages import Language
from occd.log import printable
from occd.model import File
from occd.sandbox import Run, Sandbox, Sink, open_sandbox
from occd.sandbox.doctor import Finding, Grade

_TRIAL_S = 10.0
_LOOK_S = 0.05


async def warm(config: Config, cache: Path) -> bool:
    """Whether all is there now."""
    failed = 0

    def tell(part: Part, words: str, well: bool) -> None:
        nonlocal failed
        failed += not well
        click.echo(printable(f"{part}: {words}"))

    async with open_sandbox(config, cache) as sandbox:
        precompiled = Precompiled(config, sandbox)
        if not precompiled.is_on:
            raise OccdError(_why_off(config, sandbox))
        try:
            await precompiled.make(tell)
        except OSError as error:
            raise OccdError(f"{config.precompiled_folder}: {error.strerror or error}") from error
    return not failed


def _why_off(config: Config, sandbox: Sandbox) -> str:
    if not sandbox.shows:
        why = "with sandbox.kind: docker programs see the image alone"
    elif not config.precompiled.bytes:
        why = "precompiled.bytes is 0"
    else:
        why = "with Redis, precompiled.folder must name a folder for it"
    return f"nothing is precompiled: {why}"


async def look_at_precompiled(config: Config, sandbox: Sandbox) -> list[Finding]:
    precompiled = Precompiled(config, sandbox)
    if not precompiled.is_on:
        return [Finding(Grade.OK, _why_off(config, sandbox))]
    there, missing = await precompiled.look()
    found = []
    if there:
        found.append(Finding(Grade.OK, f"precompiled: {_listed(there)}"))
    if missing:
        remedy = (
            "`occd warm` makes them now, or says why not. The daemon makes them in the background"
        )
        found.append(Finding(Grade.WEAK, f"not precompiled: {_listed(missing)}", remedy))
    return found


def _listed(parts: list[Part]) -> str:
    return "; ".join(map(str, parts))


async def look_at_templates(config: Config, sandbox: Sandbox) -> list[Finding]:
    """By trying one language of each kind: what the kernel refuses to one, it refuses to all."""
    if not config.sandbox.templates or config.sandbox.kind == "docker":
        why = "sandbox.templates is 0" if config.sandbox.kind == "nsjail" else "Docker has none"
        return [Finding(Grade.OK, f"each program starts its own interpreter: {why}")]
    kinds: dict[str, list[Language]] = {}
    for id in sandbox.available:
        language = sandbox.languages[id]
        if language.warm:
            kinds.setdefault(language.warm, []).append(language)
    return [await _tried(sandbox, kind, languages) for kind, languages in sorted(kinds.items())]


async def _tried(sandbox: Sandbox, kind: str, languages: list[Language]) -> Finding:
    names = ", ".join(sorted(language.name for language in languages))
    if kind == "fork" and sandbox.unforked:
        return Finding(Grade.WEAK, f"no templates ({kind}) for {names}: jails are not forked")
    why = f"none served within {_TRIAL_S:g} s"
    try:
        with trio.move_on_after(_TRIAL_S):
            while languages[0].id not in sandbox.templates:
                await _run_hello(sandbox, languages[0])
                await trio.sleep(_LOOK_S)
            return Finding(Grade.OK, f"templates ({kind}): {names}")
    except SandboxFailed as error:
        why = str(error)
    remedy = "Programs start interpreters of their own. The log says why there is no template"
    return Finding(Grade.WEAK, f"no templates ({kind}) for {names}: {why}", remedy)


async def _run_hello(sandbox: Sandbox, language: Language) -> None:
    installed = sandbox.available[language.id][0]
    files = [File(language.file_name, language.hello.encode())]
    command = Program(language, installed, language.file_name, files).to_run(
        (), (), language.limits
    )
    sink = Sink(language.limits.output)
    run = Run(command.argv, tuple(command.env), command.limits, sink, sink)
    async with sandbox.cell(language, files, language.limits, installed.root) as cell:
        await cell.run(run)
