"""`occd languages`: what runs here, what installs the rest, and whether a language's file is right."""

import glob
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from occd.config import Config
from occd.console import enter, now
from occd.errors import ConfigError, SandboxFailed
from occd.fileowner import other_owner
from occd.languages import Language
from occd.log import printable

if TYPE_CHECKING:
    from occd.proving import Trial
    from occd.sandbox import Sandbox


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
    from occd.languages.debian import of_machine
    from occd.languages.installing import has_packages, sizes
    from occd.languages.loading import read_languages
    from occd.sandbox import open_sandbox

    rows: list[tuple[str, ...]] = []
    absent = []
    async with AsyncExitStack() as stack:
        with now() as tell:
            opened = open_sandbox(config, _known_answers(config), tell=tell)
            sandbox = await stack.enter_async_context(opened)
        for language in sandbox.languages.values():
            if language.id not in sandbox.available:
                absent.append(language)
                continue
            told = ", ".join(each.version for each in sandbox.available[language.id])
            if formatter := sandbox.formatters.get(language.id):
                told += f"; formatted by {formatter.binary}"
            elif language.formatters:
                told += f"; to format: {language.formatters[0].install}"
            rows.append((language.id, language.name, language.support, told))
    known, debian = sizes(), of_machine()
    for language in absent:
        if every or language.support == "core":
            takes = f" ({known[language.id]})" if language.id in known else ""
            told = f"not here; to have it: occd languages install {language.id}{takes}"
            if not has_packages(debian, language):
                told = f"not here: it {_in_an_image(language)}"
            rows.append((language.id, language.name, language.support, told))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *cells, told in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo("  ".join([*padded, told]))
    if absent and not every:
        click.echo(f"{len(absent)} others can be installed: occd languages --all lists them")
    for fault in read_languages().faults:
        click.echo(f"left out: {fault}", err=True)


def _in_an_image(language: Language) -> str:
    needed = language.debian
    return f"needs Debian {needed}, which an image has: occd images debian-{needed} (docs/operating.md)"


def _known_answers(config: Config) -> Path | None:
    """The file in which a daemon keeps what compilers answered, if there is a data folder of this user's. A
    `./data` that nobody named may be any project's, and a file in it of this name, too."""
    folder = config.data_dir
    named = "data_dir" in config.model_fields_set or os.path.exists(folder / "occd.db")
    there = named and os.path.isdir(folder) and not other_owner(folder)
    return folder / "languages.json" if there else None


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
    from occd.languages.debian import of_machine
    from occd.languages.installing import SETS, commands, has_packages, in_set
    from occd.languages.installing import install as install_these
    from occd.languages.loading import language_named, load_languages

    wanted: dict[str, Language] = {}
    debian = of_machine()
    for name in names:
        if name in SETS:
            those = in_set(load_languages().values(), name, debian)
        else:
            those = [language_named(name)]
            if not has_packages(debian, those[0]):
                raise ConfigError(f"{those[0].name} {_in_an_image(those[0])}")
        wanted |= {each.id: each for each in those}
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
    """Try the language of FILE in the jail, and tell what is wrong.

    Exits with 1 when something is.
    """
    from occd.languages.loading import Faulty, read_new_language

    try:
        language = read_new_language(file)
    except Faulty as error:
        click.echo(f"WRONG   {file}: {error}")
        sys.exit(1)
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
        for told in () if versions else await _unanswered(sandbox, language):
            click.echo(printable(told))
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
        if right and versions:
            await _note_forms(Trial(sandbox, language, versions[0]))
    return right and bool(versions)


async def _note_forms(trial: "Trial") -> None:
    """Some languages refuse such files, and others keep a carriage return in a text of several lines."""
    from occd.proving import FORMS, wrong_in

    for form in FORMS:
        if wrong := await wrong_in(form, trial):
            click.echo(
                f'note    {form.told}, {wrong}\n        strip = ["{form.strip}"] takes that away, '
                "where the language allows it; else `quirks` may tell of it"
            )


async def _unanswered(sandbox: "Sandbox", language: Language) -> list[str]:
    """Why no version was found."""
    from occd.sandbox.probe import why_unanswered

    if told := await why_unanswered(sandbox, language):
        return told
    here = [path for pattern in language.candidates for path in sorted(glob.glob(pattern))]
    if not here:
        told = [f"no file is like {' or '.join(language.candidates)}"]
        return [
            *told,
            f"To have it, {_first(language)}as root: occd languages install {language.id}",
        ]
    return [
        f"{path}{_link(path)} is not seen by programs: they see what sandbox/policy/rootfs.toml lists"
        for path in here
    ]


def _first(language: Language) -> str:
    """The steps before a language can be installed."""
    from occd.languages.loading import folder_of_languages, load_languages

    known = language.id in load_languages()
    return "" if known else f"put its file into {folder_of_languages()}, and "


def _link(path: str) -> str:
    real = os.path.realpath(path)
    return "" if real == path else f", a link to {real},"


@languages.command()
def schema() -> None:
    """Print the JSON Schema of a language's file, for editors."""
    import json

    from occd.languages.loading import schema as described

    click.echo(json.dumps(described(), indent=2, ensure_ascii=False))
