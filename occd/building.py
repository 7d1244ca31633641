"""`occd images`: builds the images that programs see, and tells what is there."""

import sys
import time
from typing import TYPE_CHECKING

import click

from occd.config import Config
from occd.errors import ConfigError
from occd.log import printable

if TYPE_CHECKING:
    from occd.images.docker import Given

_SHOWN = 60
_AGAIN_S = 0.2


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option(
    "--list",
    "listing",
    is_flag=True,
    help="Tell which images there are, with Docker also which it has, and build none.",
)
@click.option(
    "--mirror", metavar="URL", help="Where to get Debian (default: as this machine's apt)."
)
@click.option(
    "--security-mirror",
    metavar="URL",
    help="Where to get Debian's security fixes (default: as above).",
)
@click.option(
    "--docker", is_flag=True, help="Also give them to Docker, as with sandbox.kind: docker."
)
@click.option("--no-build", is_flag=True, help="With Docker: give it what was built before.")
@click.option(
    "--script", is_flag=True, help="Print the script that installs the packages of one image."
)
@click.pass_obj
def images(
    config: Config,
    names: tuple[str, ...],
    listing: bool,
    mirror: str | None,
    security_mirror: str | None,
    docker: bool,
    no_build: bool,
    script: bool,
) -> None:
    """Build images: file systems of Debian that programs see instead of this machine's, as root.

    Without a NAME those of the configuration (sandbox.images) are built, else debian-12. An image that is
    there already is built anew, with the packages of today, and takes the place of the old one at once.
    """
    from occd.datafile import make_folder
    from occd.images import USUAL, describe, found
    from occd.images.build import build
    from occd.images.script import script as script_of
    from occd.images.source import find_source, refuse_what_cannot_begin

    to_docker = docker or config.sandbox.kind == "docker"
    if listing:
        from occd.images.status import listed

        in_docker = _in_docker(config) if to_docker else None
        for line in listed(config.data_dir, in_docker):
            click.echo(printable(line))
        return
    if no_build and not to_docker:
        raise ConfigError("images: --no-build gives Docker what was built before: add --docker")
    asked = names or config.sandbox.images or (USUAL,)
    if no_build and not script:
        built = {image.name for image in found(config.data_dir)}
        for name in asked:
            if name not in built:  # an image that was built need not be described any more
                describe(name)
        for name in asked:
            _give(config, name)
        return
    wanted = [describe(name) for name in asked]
    if script:
        for each in wanted:
            click.echo(script_of(each), nl=False)
        return
    for each in wanted:
        refuse_what_cannot_begin(each)
    make_folder(config.data_dir)
    source = find_source(mirror, security_mirror)
    for each in wanted:
        image = build(each, config.data_dir, source, _Lines(each.name))
        _say(
            f"{image.name}: built in {image.seconds:.0f} s: {len(image.packages['apt'])} packages of "
            f"Debian, {image.bytes / 1e9:.1f} GB in {config.data_dir / 'images' / image.name}"
        )
        if to_docker:
            _give(config, each.name)


def _give(config: Config, name: str) -> None:
    from occd.images.docker import give

    began = time.monotonic()
    tag = give(config.sandbox.host, config.data_dir, name)
    _say(f"{name}: given to Docker as {tag} in {time.monotonic() - began:.0f} s")


def _in_docker(config: Config) -> "dict[str, Given] | None":
    from occd.images.docker import given

    answer = given(config.sandbox.host)
    if answer is None:
        _say(
            f"Docker's engine at {config.sandbox.host} does not tell what it has: it is away, or too "
            "busy, or this user may not open it"
        )
    return answer


def _say(line: str) -> None:
    click.echo(f"occd: {line}", err=True)


class _Lines:
    """A line for each step. At a terminal the line also shows what the step's tool says."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._step = ""
        self._live = sys.stderr.isatty()
        self._shown_at = 0.0

    def begins(self, number: int, count: int, told: str) -> None:
        self._step = f"occd: {self._name}: {number}/{count} {told} …"
        click.echo(self._step, err=True, nl=False)

    def says(self, line: str) -> None:
        now = time.monotonic()
        if self._live and now - self._shown_at > _AGAIN_S:
            self._shown_at = now
            text = "".join(each for each in line if each.isprintable())[:_SHOWN]
            click.echo(f"\r\x1b[K{self._step} {text}", err=True, nl=False)

    def fails(self) -> None:
        click.echo(err=True)

    def ends(self, seconds: float) -> None:
        again = f"\r\x1b[K{self._step}" if self._live else ""
        click.echo(f"{again} {seconds:.0f} s", err=True)
