"""`occd languages`: what runs here, what installs the rest, and whether a language's file is right."""

import glob
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import click
import trio

from occd.config import Config
from occd.console import enter, now
from occd.errors import OccdError, SandboxFailed
from occd.languages import Language
from occd.languages.finding import find


@click.group(invoke_without_command=True)
@click.option(
    "--all", "every", is_flag=True, help="Also those that are not here, with what installs them."
)
@click.pass_context
def languages(context: click.Context, every: bool) -> None:
    """List what can run here."""
    if context.invoked_subcommand is None:
        enter()
        trio.run(_show, context.obj, every)


async def _show(config: Config, every: bool) -> None:
    from occd.languages.installing import sizes
    from occd.languages.loading import read_languages
    from occd.sandbox import open_sandbox

    absent = []
    async with AsyncExitStack() as stack:
        with now() as tell:
            sandbox = await stack.enter_async_context(open_sandbox(config, tell=tell))
        for language in sandbox.languages.values():
            if language.id not in sandbox.available:
                absent.append(language)
                continue
            told = ", ".join(each.version for each in sandbox.available[language.id])
            if formatter := sandbox.formatters.get(language.id):
                told += f"; formatted by {formatter.binary}"
            elif language.formatters:
                told += f"; to format: {language.formatters[0].install}"
            _row(language, told)
    known = sizes()
    for language in absent:
        if every or language.support == "core":
            takes = f" ({known[language.id]})" if language.id in known else ""
            _row(language, f"not here; to have it: occd languages install {language.id}{takes}")
    if absent and not every:
        click.echo(f"{len(absent)} others can be installed: occd languages --all lists them")
    for fault in read_languages().faults:
        click.echo(f"left out: {fault}", err=True)


def _row(language: Language, told: str) -> None:
    click.echo(f"{language.id:14} {language.name:24} {language.support:8} {told}")


@languages.command()
@click.argument("names", nargs=-1, required=True, metavar="SET|NAME…")
@click.option(
    "--print", "only_print", is_flag=True, help="Print the commands, and install nothing."
)
@click.option("--versions", is_flag=True, help="Each language in all versions that its file names.")
def install(names: tuple[str, ...], only_print: bool, versions: bool) -> None:
    """Install languages: a set (core, popular, all) or some by their names.

    Installs Debian's packages by apt, and those of PyPI and npm in folders below /usr/local/lib/occd. What is
    there already stays.
    """
    from occd.languages.installing import SETS, commands, in_set
    from occd.languages.installing import install as install_these
    from occd.languages.loading import load_languages

    known = load_languages()
    wanted: dict[str, Language] = {}
    for name in names:
        if name in SETS:
            wanted |= {each.id: each for each in in_set(known.values(), name)}
        elif language := find(known, name):
            wanted[language.id] = language
        else:
            raise click.UsageError(f"{name!r} is neither a language nor one of {', '.join(SETS)}")
    if only_print:
        click.echo(commands(list(wanted.values()), versions=versions))
        return
    install_these(
        list(wanted.values()), lambda told: click.echo(f"occd: {told}"), versions=versions
    )


@languages.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def check(config: Config, file: Path) -> None:
    """Try the language of FILE in the jail, and tell what is wrong."""
    from occd.languages.loading import Faulty, read_language

    try:
        language = read_language(file)
    except Faulty as error:
        raise OccdError(f"{file}: {error}") from error
    enter()
    if not trio.run(_check, config, language):
        sys.exit(1)


_OF_EACH = ("hello", "example")
"""What older versions are tried with, too."""


async def _check(config: Config, language: Language) -> bool:
    """Whether all is well."""
    from occd.proving import PROOFS, Broken, Trial, unproved
    from occd.sandbox import open_sandbox

    right = True
    async with open_sandbox(config, only=language.id, languages={language.id: language}) as sandbox:
        versions = sandbox.available.get(language.id, ())
        for told in () if versions else _unseen(language):
            click.echo(told)
        for installed in versions:
            click.echo(f"{language.name} {installed.version}: {installed.binary}")
            for name in PROOFS if installed is versions[0] else _OF_EACH:
                if why := unproved(language, name):
                    click.echo(f"left    {name}: {why}")
                    continue
                try:
                    await PROOFS[name](Trial(sandbox, language, installed))
                    click.echo(f"ok      {name}")
                except (Broken, SandboxFailed) as error:
                    click.echo(f"WRONG   {name}: {error}")
                    right = False
    return right and bool(versions)


def _unseen(language: Language) -> list[str]:
    """Why no version was found."""
    here = [path for pattern in language.candidates for path in sorted(glob.glob(pattern))]
    if not here:
        told = f"no file is like {' or '.join(language.candidates)}"
        return [told, f"To have it, as root: occd languages install {language.id}"]
    return [
        f"{path} leads to {os.path.realpath(path)}, and did not tell its version to programs. They see the "
        f"folders of sandbox/policy/rootfs.toml; its version is asked by {list(language.version)}"
        for path in here
    ]


@languages.command()
def schema() -> None:
    """Print the JSON Schema of a language's file, for editors."""
    import json

    from occd.languages.loading import schema as described

    click.echo(json.dumps(described(), indent=2, ensure_ascii=False))
