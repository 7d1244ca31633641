"""Images: file systems of Debian that programs see instead of the machine's.

`sandbox/images/NAME.toml` describes an image: a Debian release, ids of languages, and further packages, if
any. `build.py` makes the folder `DATA_DIR/images/NAME` of it: `root/`, and `image.json`, which tells what was
installed. What belongs to the running version of occd (`/.occd-init`, `/opt/occd`) is not in there, but has
its places.
"""

import fcntl
import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

from occd.data import data_folder
from occd.errors import ConfigError, SandboxUnavailable
from occd.languages import Language
from occd.languages.debian import RELEASES
from occd.languages.installing import SETS, has_packages, in_set, private_steps
from occd.languages.loading import load_languages
from occd.languages.packages import Packages, load_packages

FOLDER = "images"
TOLD = "image.json"
_ABSENT = (FileNotFoundError, NotADirectoryError)
USUAL = "debian-12"
"""The image that is used where one is needed and none was chosen."""
_FORM = 1
"""Rises when images are built in another way."""


@dataclass(frozen=True, slots=True)
class Description:
    """The contents of an image, as its file describes them. `release` is a name of Debian's: bookworm."""

    name: str
    release: str
    languages: tuple[str, ...]
    packages: Packages
    private: tuple[tuple[str, str], ...] = ()
    """Scripts that install packages of languages in folders of their own, with a line for a person."""
    prepare: tuple[tuple[str, str], ...] = ()
    """Scripts that make it ready when the packages are there, with the names of their languages."""

    @property
    def digest(self) -> str:
        """Changes when an image that was built before is no longer as described."""
        said = [
            _FORM,
            self.release,
            asdict(self.packages),
            self.private,
            self.prepare,
            written(),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was built. `packages` maps apt, pip and npm to the versions of what they installed;
    `seconds` is how long the building took, `built_at` when it ended, in seconds since the epoch, and `bytes`
    the size of `root`."""

    name: str
    root: Path
    release: str
    architecture: str
    digest: str
    packages: dict[str, dict[str, str]]
    seconds: float
    built_at: float
    bytes: int


def written() -> dict[str, str]:
    """The texts of the files that no program finds as Debian has them, by their paths."""
    policy = tomllib.loads((data_folder("sandbox") / "policy/rootfs.toml").read_text())
    return {path: text.lstrip() for path, text in policy["written"].items()}


def described() -> list[str]:
    """The names of the images that can be built."""
    return sorted(path.stem for path in (data_folder("sandbox") / "images").glob("*.toml"))


def describe(name: str) -> Description:
    """Raises ConfigError for an image that has no description, and for a description that makes no sense."""
    if name not in described():
        raise ConfigError(f"images: there is no {name}; there are {', '.join(described())}")
    return load_description(data_folder("sandbox") / "images" / f"{name}.toml")


def load_description(path: Path) -> Description:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        if unknown := values.keys() - {"release", "languages", "install"}:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        release, names = values["release"], values["languages"]
        if not isinstance(release, str) or not release.isalpha():
            raise ValueError('release: must be the name of a Debian, as in "bookworm"')
        chosen = _chosen(names, RELEASES.get(release))
        wanted = [load_packages(values["install"])] if "install" in values else []
        for each in chosen:
            own = each.install  # those of pip and npm have a folder of their own
            wanted += [
                Packages(own.apt + _interpreters(own)),
                *(one.install for one in each.formatters),
            ]
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ConfigError(f"{path.name}: {told}") from error
    steps = (step for each in chosen for step in private_steps(each, versions=False))
    private = tuple((step.told, step.script) for step in steps)
    prepare = tuple((each.name, each.prepare.strip()) for each in chosen if each.prepare)
    ids = tuple(each.id for each in chosen)
    return Description(path.stem, release, ids, _together(wanted), private, prepare)


def _chosen(names: Any, debian: int | None) -> list[Language]:
    """The languages of these ids and sets. Raises ValueError."""
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"languages: must be a list of ids and of {', '.join(SETS)}")
    languages = load_languages()
    chosen: dict[str, Language] = {}
    for name in names:
        if name in SETS:
            chosen |= {each.id: each for each in in_set(languages.values(), name, debian)}
        elif name not in languages:
            raise ValueError(f"languages: there is no {name}: see occd languages --all")
        elif not has_packages(debian, languages[name]):
            raise ValueError(f"languages: {name} needs Debian {languages[name].debian}")
        else:
            chosen[name] = languages[name]
    return list(chosen.values())


def _together(each: list[Packages]) -> Packages:
    pip = _sorted(packages.pip for packages in each)
    npm = _sorted(packages.npm for packages in each)
    apt = _sorted(packages.apt + _interpreters(packages) for packages in each)
    return Packages(apt, pip, npm)


def _interpreters(packages: Packages) -> tuple[str, ...]:
    return (("python3",) if packages.pip else ()) + (("nodejs",) if packages.npm else ())


def _sorted(names: Any) -> tuple[str, ...]:
    return tuple(sorted(set(chain.from_iterable(names))))


def tag(name: str) -> str:
    """How Docker knows the image of this name."""
    return f"occd/{name}"


def find(data_dir: Path, name: str) -> Image | None:
    """The image of this name, if it was built. It may be replaced at any time: see `opened`. Raises
    ConfigError when it cannot be looked for."""
    with _looking(data_dir):
        return read(data_dir / FOLDER / name)


def found(data_dir: Path) -> list[Image]:
    """All images that were built, by their names. Raises ConfigError when it cannot be looked for them."""
    folder = data_dir / FOLDER
    with _looking(data_dir):
        try:
            names = sorted(os.listdir(folder))
        except _ABSENT:
            return []
        images = [read(folder / name) for name in names if "." not in name]
    return [image for image in images if image]


@contextmanager
def _looking(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ConfigError(
            f"images: {Path(error.filename).absolute()} cannot be read by this user: look as the owner of "
            f"{data_dir.absolute()}, or as root"
        ) from error
    except OSError as error:
        raise ConfigError(f"images: {error.filename} cannot be read: {error.strerror}") from error


def read(folder: Path) -> Image | None:
    """The image in this folder. None when there is none, or none of which the facts are whole. Raises OSError
    when that cannot be told."""
    try:
        told = json.loads((folder / TOLD).read_text())
        names = [field.name for field in fields(Image) if field.name != "root"]
        return Image(root=folder / "root", **{name: told[name] for name in names})
    except (*_ABSENT, ValueError, KeyError, TypeError):
        return None  # also after a power cut; and a later version may tell more


@contextmanager
def opened(data_dir: Path, name: str) -> Iterator[Image]:
    """The image, whose files stay as they are until it is closed, also when the image is built anew. Its
    `root` is a path for this process alone.

    Raises SandboxUnavailable when the image was not built or cannot be read, and when this is root and others
    could have chosen the image's files: the data folder may be a normal user's.
    """
    while True:
        folder = data_dir / FOLDER / name
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except _ABSENT:
            raise not_built(name) from None
        except OSError as error:
            raise _unreadable(name, folder, error) from error
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            if not _is(folder, held):
                continue  # it was replaced before it was held
            try:
                image = read(Path(f"/proc/self/fd/{held}"))
            except OSError as error:
                raise _unreadable(name, folder, error) from error
            if image is None:
                raise not_built(name)
            if _is_root() and not (_roots(os.stat(held)) and _roots(image.root.lstat())):
                raise SandboxUnavailable(
                    f"others than root can write to the image {name} in {folder.absolute()}",
                    f"Move it away, and build it, as root: occd images {name}",
                )
            yield image
            return
        finally:
            os.close(held)


def _is_root() -> bool:
    """A normal user is root, and the only user, in the namespace that occd makes for its jails."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[2] != "1"


def _roots(found: os.stat_result) -> bool:
    """Whether root alone chooses what is in this folder."""
    alone = found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return alone and stat.S_ISDIR(found.st_mode)


def _is(folder: Path, held: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(held))
    except FileNotFoundError:
        return False


def _unreadable(name: str, folder: Path, error: OSError) -> SandboxUnavailable:
    """Such as by this user, or with no more files than are open."""
    return SandboxUnavailable(
        f"the image {name} cannot be read: {error.strerror}", f"Its folder is {folder.absolute()}"
    )


def not_built(name: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"the image {name} was not built", how_to_build(name, f"occd images {name}")
    )


def how_to_build(name: str, command: str) -> str:
    if name in described():
        return f"Build it, as root: {command}"
    return f"There are {', '.join(described())}: name one of them in sandbox.images"
