"""The command line. Heavy modules are imported by the commands that need them: `occd run` starts
no web server."""

import math
import os
import re
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from occd import __version__
from occd.building import images
from occd.commit import commit
from occd.config import ROLES, Config, load_config
from occd.console import enter, now
from occd.errors import ConfigError, OccdError, leaves
from occd.log import printable, set_up_logging
from occd.offering import languages

OURS = 125
"""The exit code of a command that could not do what was asked: it is not the program's."""
TIME_OVER = 124
INTERRUPTED = 128 + signal.SIGINT


class _Group(click.Group):
    """Errors that we know end in one line, not in a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except OccdError as error:
            click.echo(f"occd: {error}", err=True)
            context.exit(OURS)
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt):
                context.exit(INTERRUPTED)
            if not all(isinstance(each, OccdError) for each in leaves(group)):
                raise
            for each in leaves(group):
                click.echo(f"occd: {each}", err=True)
            context.exit(OURS)


class _Run(click.Command):
    """`occd run` with a hint for an option that is meant for the program."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            hint = f"The program's own arguments follow --, as in: occd run FILE -- {error.option_name}"
            raise click.UsageError(f"{error.format_message()} {hint}", context) from None


def _tell_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        known = commit()
        click.echo(f"occd, version {__version__}" + (f", commit {known}" if known else ""))
        context.exit()


@click.group(cls=_Group, invoke_without_command=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and the commit, and exit.",
)
@click.option(
    "--roles", metavar="ROLE,…", help=f"What to serve: all, or some of {', '.join(ROLES)}."
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen (default 127.0.0.1:8000).")
@click.option(
    "--data-dir",
    type=click.Path(readable=False, path_type=Path),  # whoever reads it says whose it is
    help="Where to keep everything (default ./data).",
)
@click.option(
    "--config",
    "folder",
    type=click.Path(readable=False, path_type=Path),
    help="A folder of YAML files (default ./config).",
)
@click.pass_context
def main(
    context: click.Context,
    roles: str | None,
    listen: str | None,
    data_dir: Path | None,
    folder: Path | None,
) -> None:
    """Compile and run programs in a sandbox, and show their output live.

    `occd --roles all` serves; the commands below do one thing each. One that could not do what was asked
    says why in a line, and exits with 125; 2 is for a command line that makes no sense.
    """
    _open_standard_streams()
    set_up_logging()
    flags: dict[str, Any] = {"listen": listen, "data_dir": data_dir, "roles": roles}
    given = {name: each for name, each in flags.items() if each is not None}
    context.obj = load_config(folder, given)
    set_up_logging(context.obj.log.format, context.obj.log.level)
    if context.invoked_subcommand:
        return
    if "roles" not in context.obj.model_fields_set:
        if given or folder:
            raise ConfigError("nothing to do: add --roles all to serve, or one of the commands")
        click.echo(context.get_help())
        context.exit()
    from occd import app

    enter()
    trio.run(app.run, context.obj)


@main.command(cls=_Run)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--stdin",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read its stdin from this file.",
)
@click.option("--language", help="Its language, where the suffix does not tell.")
@click.option("--trace", is_flag=True, help="Count its system calls, on stderr, at its end.")
@click.argument("args", nargs=-1)
@click.pass_obj
def run(
    config: Config,
    file: Path,
    stdin: Path | None,
    language: str | None,
    trace: bool,
    args: tuple[str, ...],
) -> None:
    """Run one program in the sandbox, with this terminal's stdin, stdout and stderr.

    At a terminal the program has a terminal of its own, and as much time as its user needs: it ends after
    5 minutes without input, or after an hour. With --stdin, or a pipe or a file as one of the three, it
    has pipes, and 10 seconds.

    Exits with its exit code, 124 when it hit a limit, 128+n when signal n killed it, 125 when occd
    could not run it to its end, and says why in a line. Its arguments follow `--`.
    """
    from occd.run import run_file

    enter()
    sys.exit(trio.run(partial(run_file, trace=trace), config, file, stdin, language, args))


@main.command()
@click.pass_obj
def doctor(config: Config) -> None:
    """Tell how this machine can isolate programs, and how to mend what is missing."""
    from occd.sandbox.doctor import examine
    from occd.warming import look_at_precompiled, look_at_templates

    enter()
    with now() as tell:
        findings = trio.run(examine, config, tell, look_at_templates, look_at_precompiled)
    for finding in findings:
        click.echo(f"{finding.grade.value:5} {finding.text}")
        if finding.remedy:
            click.echo(f"      → {finding.remedy}")
    safe = all(finding.safe for finding in findings)
    click.echo("Programs can be run here safely." if safe else "Programs can NOT be run here.")
    sys.exit(0 if safe else 1)


main.add_command(images)
main.add_command(languages)


@main.command()
@click.pass_obj
def warm(config: Config) -> None:
    """Make now what compilations have in common: precompiled headers, class data, a compiled library.

    A daemon makes the same in the background. What is there stays as it is, and a line tells of each part.
    Exits with 1 when one could not be made: programs of its language are then compiled without it.
    """
    from occd.datafile import make_folder
    from occd.warming import warm as warmed

    enter()
    make_folder(config.data_dir)
    if not trio.run(warmed, config, config.data_dir / "languages.json"):
        sys.exit(1)


@main.command()
@click.pass_obj
def nodes(config: Config) -> None:
    """List the processes that share this configuration's Redis, and what each holds."""
    from occd.levels import in_words
    from occd.state import open_state

    if config.redis is None:
        raise ConfigError("redis.url: must be set; a server without Redis is the only node it has")

    async def show() -> None:
        async with open_state(config, None) as state:
            for node in await state.nodes.live():
                languages = ", ".join(
                    f"{name} {'/'.join(versions)}" for name, versions in node.languages.items()
                )
                click.echo(
                    f"{printable(node.name)}: {printable(','.join(node.roles))}; {node.running} running, "
                    f"{node.connections} connections following {node.following}; "
                    f"up {_ago(node.started_at)}, seen {_ago(node.seen_at)} ago"
                )
                if languages:
                    click.echo(f"      {printable(languages)}")
                if node.holds is not None:
                    click.echo(f"      {printable(in_words(node.holds))}")
                if node.warm:
                    click.echo(f"      warm: {printable(', '.join(node.warm))}")

    trio.run(show)


def _ago(then: float) -> str:
    seconds = max(0, round(time.time() - then))
    hours, minutes = seconds // 3600, seconds // 60
    return (
        f"{hours} h {minutes % 60} min"
        if hours
        else f"{minutes} min"
        if minutes
        else f"{seconds} s"
    )


@main.group(invoke_without_command=True)
@click.pass_context
def queues(context: click.Context) -> None:
    """List the queues, how many messages wait there, and the dead letters that are kept."""
    from occd.queues import show

    if context.invoked_subcommand is None:
        for line in trio.run(show, context.obj):
            click.echo(line)


@queues.command()
@click.argument("id")
@click.pass_obj
def requeue(config: Config, id: str) -> None:
    """Run a kept dead letter again, as a new submission, whose id is printed."""
    from occd.administration import requeue_letter

    click.echo(requeue_letter(config, id))


@main.command()
@click.argument("id")
@click.pass_obj
def cancel(config: Config, id: str) -> None:
    """Cancel a submission, whoever submitted it, beside a running daemon or without one."""
    from occd.administration import cancel_submission

    if not cancel_submission(config, id):
        click.echo(f"occd: {id} had finished", err=True)


class _Duration(click.ParamType[float]):
    """Seconds, written as 90d, 12h, 30m or 45s."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", str(value))
        if not found:
            self.fail(f"{value!r} is no duration: write 90d, 12h, 30m or 45s", param, context)
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[found[2]]


@main.command()
@click.option("--undo", is_flag=True, help="Let the daemon take submissions again.")
@click.option(
    "--timeout",
    type=_Duration(),
    default=math.inf,
    help="How long to wait, as in 10m (default: until done).",
)
@click.pass_obj
def drain(config: Config, undo: bool, timeout: float) -> None:
    """Let the daemon take no more, and wait until what it has in hand has ended.

    Programs that run go on, and their clients stay. The daemon answers new submissions with 503 and takes
    nothing from the queue until `occd drain --undo`, or until it is started again. Exits with 124 when the
    time is over; the daemon then still takes no more.
    """
    from occd import administration

    def tell(held: int) -> None:
        under_way = "one submission is" if held == 1 else f"{held} submissions are"
        click.echo(f"occd: {under_way} under way here" if held else "occd: drained", err=True)

    if undo:
        administration.undo_drain(config)
    elif not administration.drain(config, timeout, tell):
        click.echo("occd: the time is over; the daemon still takes no more", err=True)
        sys.exit(TIME_OVER)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.pass_obj
def backup(config: Config, file: Path, force: bool) -> None:
    """Write all that the data folder keeps into one file, beside a running daemon or without one.

    The file has submissions, results and their files, the queue, keys, sessions and quotas, as they were at
    one moment after the start of the command. It holds the secrets of clients: keep it as the data folder.
    """
    from occd.administration import make_backup

    size = make_backup(config, file, replace=force)
    click.echo(f"occd: {file}: {size / 1e6:.1f} MB", err=True)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data-dir", type=click.Path(path_type=Path), help="A folder that is new or empty.")
@click.pass_obj
def restore(config: Config, file: Path, data_dir: Path | None) -> None:
    """Make a data folder of a backup. Programs that had not finished run when occd starts there."""
    from occd.restore import restore as restored

    folder = data_dir or config.data_dir
    restored(file, folder)
    click.echo(f"occd: restored {folder}", err=True)


@main.group()
def keys() -> None:
    """Create, list, replace and revoke the keys of accounts (docs/accounts.md).

    Beside a running daemon these commands go over its control socket, and the daemon's configuration counts.
    With Redis, they work on Redis.
    """


@keys.command("create")
@click.option("--owner", required=True, help="Whose submissions those of the key are.")
@click.option("--class", "class_name", required=True, help="A class of the configuration.")
@click.option(
    "--scope",
    default="run,read",
    help="Some of run, read, read-all, admin.",
    metavar="SCOPE,…",
    show_default=True,
)
@click.option("--expires", type=_Duration(), help="After which time, as in 90d (default: never).")
@click.pass_obj
def create_key(
    config: Config, owner: str, class_name: str, scope: str, expires: float | None
) -> None:
    """Create a key. The key is written to stdout, once: occd keeps its hash alone."""
    from occd import administration

    scopes = [each.strip() for each in scope.split(",")]
    new = administration.begins_folder(config)
    _show_new(administration.create_key(config, owner, class_name, scopes, expires))
    if new:
        click.echo(
            f"occd: the data folder {config.data_dir} is new; a daemon with another folder does not know the "
            "key: name the daemon's with --data-dir before the command",
            err=True,
        )


@keys.command("list")
@click.pass_obj
def list_keys(config: Config) -> None:
    """List the keys. The keys themselves are not known any more."""
    from occd import administration

    times = ("created (UTC)", "used (UTC)", "expires (UTC)")
    columns = ("id", "owner", "class", "scopes", *times, "from")
    rows = [columns, *map(_row, administration.list_keys(config))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@keys.command("revoke")
@click.argument("id")
@click.option(
    "--cancel",
    is_flag=True,
    help="Also cancel what its owner has that has not finished, unless another key of the owner holds.",
)
@click.pass_obj
def revoke_key(config: Config, id: str, cancel: bool) -> None:
    """Revoke a key. It is dead everywhere within 5 seconds."""
    from occd import administration

    revoked = administration.revoke_key(config, id, cancel=cancel)
    owner, others = printable(revoked["owner"]), printable(", ".join(revoked["others"]))
    click.echo(f"occd: revoked {id} of {owner}", err=True)
    if revoked["cancelled"] is not None:
        click.echo(f"occd: cancelled {revoked['cancelled']} submissions", err=True)
    elif cancel:
        click.echo(f"occd: cancelled nothing, because {owner} has other keys: {others}", err=True)


@keys.command("rotate")
@click.argument("id")
@click.option(
    "--keep", type=_Duration(), default=0.0, help="How long the old key still holds, as in 1h."
)
@click.pass_obj
def rotate_key(config: Config, id: str, keep: float) -> None:
    """Replace a key by another one of the same owner, class and scopes, which is written to stdout once."""
    from occd import administration

    _show_new(administration.rotate_key(config, id, keep))
    until = f"in {keep:.0f} s" if keep else "now, everywhere within 5 s"
    click.echo(f"occd: the key {id} ends {until}", err=True)


def _show_new(key: dict[str, Any]) -> None:
    click.echo(key["key"])
    id, owner, class_name, scopes, _, _, expires, _ = _row(key)
    ends = "never expires" if expires == "never" else f"expires {expires} UTC"
    click.echo(
        f"occd: the key {id} of {owner}, class {class_name}, scopes {scopes}, {ends}. "
        "It is shown this once: keep it now",
        err=True,
    )


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    times = [
        (key[name] or "never")[:16].replace("T", " ")
        for name in ("created_at", "used_at", "expires_at")
    ]
    if key["from"] == "configuration":
        times[:2] = "-", "-"
    told = (key["id"], key["owner"], key["class"], ",".join(key["scopes"]), *times, key["from"])
    return tuple(map(printable, told))


@main.command("check-config")
@click.pass_obj
def check_config(config: Config) -> None:
    """Check the configuration and show what it comes to; secrets are not shown."""
    import yaml

    from occd.app import check_settings

    check_settings(config)
    click.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), nl=False)


def _open_standard_streams() -> None:
    """A closed one (`<&-`) is empty. What we open next would take its number."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w" if fd else "r"))  # noqa: SIM115
