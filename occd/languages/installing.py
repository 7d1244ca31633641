"""Installs languages on this machine: Debian's packages by apt, and those of PyPI and npm into a folder of
their own for each version, which programs see."""

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from occd.data import data_folder
from occd.errors import OccdError
from occd.languages import Language
from occd.languages.fields import SUPPORT
from occd.languages.packages import Packages

FOLDER = "/usr/local/lib/occd"
INSTALLED = ".installed"
"""The file that a step writes last into a folder that it makes, with what is in the folder."""
SETS = ("core", "popular", "all")
"""Each has those before it, too."""

_MAIN = "main"
"""The folder of the version that `install` names."""
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold"
_PIP = "python -m pip -q --disable-pip-version-check install --no-cache-dir --only-binary :all:"
_NPM = "npm --no-update-notifier install --silent --ignore-scripts --no-audit --no-fund"
_NOTHING = "nothing is missing: all are installed"
_WHY_BYTES = 2000


SIZES = data_folder("sandbox") / "languages/sizes.json"


@dataclass(frozen=True, slots=True)
class Size:
    """MB that one language takes where nothing of it is installed: to download, and on the disk."""

    download: int
    disk: int

    def __str__(self) -> str:
        return f"{self.download} MB to download, {self.disk} MB on the disk"


def sizes() -> Mapping[str, Size]:
    """By the ids of languages. A language of your own has none."""
    return {id: Size(**each) for id, each in json.loads(SIZES.read_text()).items()}


@dataclass(frozen=True, slots=True)
class Step:
    """`told` is for a person; `script` is for a shell, as root, and may be run twice."""

    told: str
    script: str
    needed: Callable[[], bool]
    installs: bool = True
    """Whether programs find something new after it."""


def in_set(languages: Iterable[Language], name: str, debian: int | None = None) -> list[Language]:
    """The languages of a set whose packages this release of Debian has. None: any release."""
    wanted = SUPPORT[: SETS.index(name) + 1]
    return [each for each in languages if each.support in wanted and has_packages(debian, each)]


def has_packages(debian: int | None, language: Language) -> bool:
    return debian is None or debian >= language.debian


def steps(languages: Sequence[Language], *, versions: bool) -> list[Step]:
    """The steps that install these languages, in order; with `versions` each in all of its versions."""
    private = (step for each in languages for step in private_steps(each, versions=versions))
    return [*_apt(languages, versions=versions), *private]


def private_steps(language: Language, *, versions: bool) -> Iterator[Step]:
    """The steps for packages that have a folder of their own: a link, so that the old packages stay until the
    new ones are whole."""
    for name, packages in _folders(language, versions=versions).items():
        folder, all_made = f"{FOLDER}/{language.id}/{name}", f"packages/{language.id}/{name}"
        names = (*packages.pip, *packages.npm)
        if not names:
            continue
        told = f"{language.name}: {' '.join(names)}"
        wanted = shlex.join(names) + (f"\n{language.finish}" if language.finish else "")
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]
        beside = f"{FOLDER}/{all_made}"
        made = f"{beside}/{digest}"
        # Python looks for modules in the current folder first, and others read what is made here.
        lines = ["cd /", "umask 022", f"trap 'rm -rf {made}' EXIT", f"rm -rf {made}"]
        lines.append(f"mkdir -p {made} {FOLDER}/{language.id}")
        if packages.pip:
            lines.append(f"/usr/bin/python3 -m venv {made}")
            lines.append(f"{made}/bin/{_PIP} {shlex.join(packages.pip)}")
        if packages.npm:
            lines.append(f"{_NPM} --prefix {made} {shlex.join(packages.npm)}")
        if language.finish:
            lines.append(f"(cd {made}\n{language.finish.strip()})")
        lines.append(f"printf '%s\\n' {shlex.quote(wanted)} > {made}/{INSTALLED}")
        # A link is replaced in one step. The folder cannot be renamed: its path stands in its files.
        lines.append(f"ln -sfn ../{all_made}/{digest} {beside}/link")
        lines.append(f"[ -L {folder} ] || [ ! -e {folder} ] || mv -T {folder} {beside}/before")
        lines += [f"mv -T {beside}/link {folder}", "trap - EXIT"]
        others = f"-mindepth 1 -maxdepth 1 ! -name {digest}"
        lines.append(f"find {beside} {others} -exec rm -rf {{}} +")
        yield Step(told, "\n".join(lines), _Absent(f"{folder}/{INSTALLED}", f"{wanted}\n"))


@dataclass(frozen=True, slots=True)
class _Absent:
    path: str
    content: str

    def __call__(self) -> bool:
        try:
            with open(self.path) as file:
                return file.read() != self.content
        except OSError:
            return True


def _folders(language: Language, *, versions: bool) -> Mapping[str, Packages]:
    return {_MAIN: language.install, **(language.versions if versions else {})}


def _apt(languages: Sequence[Language], *, versions: bool) -> Iterator[Step]:
    """A step for each language: a package that this Debian does not have costs one language."""
    installs = []
    for language in languages:
        folders = _folders(language, versions=versions).values()
        names = dict.fromkeys(name for each in folders for name in each.apt)
        if any(each.pip for each in folders):
            names["python3-venv"] = None
        if any(each.npm for each in folders) and not shutil.which("npm"):
            names["npm"] = None
        if names:
            script = f"{_APT} install --no-install-recommends {' '.join(names)}"
            told = f"{language.name}: {' '.join(names)}"
            installs.append(Step(told, script, partial(_lacks, tuple(names))))
    if installs:
        needed = partial(_any_needed, tuple(installs))
        yield Step("Debian's list of packages", f"{_APT} update", needed, installs=False)
        yield from installs


def _any_needed(steps: Sequence[Step]) -> bool:
    return any(each.needed() for each in steps)


def _lacks(names: Sequence[str]) -> bool:
    return bool(_missing(names))


def _missing(names: Sequence[str]) -> list[str]:
    asked = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names]
    try:
        said = subprocess.run(asked, capture_output=True, text=True).stdout
    except OSError as error:
        raise OccdError(f"this is no Debian: dpkg-query: {error.strerror}") from error
    here = {line.split()[0] for line in said.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in here]


def install(languages: Sequence[Language], tell: Callable[[str], None], *, versions: bool) -> None:
    """Run `steps`, as root. A step that fails leaves out what it installs, and not what the others do.

    Raises OccdError, with the end of what a step said that failed.
    """
    if os.geteuid() != 0:
        raise OccdError("languages are installed by root; --print shows the commands")
    os.umask(0o022)  # programs are other users
    with _locked() as lock:
        _install(steps(languages, versions=versions), tell, lock)


@contextmanager
def _locked() -> Iterator[int]:
    os.makedirs(FOLDER, exist_ok=True)
    lock = os.open(f"{FOLDER}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            told = "languages are being installed already: wait until that has ended"
            raise OccdError(told) from error
        yield lock
    finally:
        os.close(lock)


def _install(all_steps: Sequence[Step], tell: Callable[[str], None], lock: int) -> None:
    """The commands hold the lock, too: after SIGKILL of this process they go on."""
    open_steps = [each for each in all_steps if each.needed()]
    failed, is_new = [], False
    for number, step in enumerate(open_steps, 1):
        tell(f"{number} of {len(open_steps)}: {step.told} …")
        began = time.monotonic()
        done = subprocess.run(
            ["/bin/sh", "-ec", step.script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        )
        took = time.monotonic() - began
        if done.returncode == 0:
            tell(f"{number} of {len(open_steps)}: done in {took:.0f} s")
            is_new |= step.installs
        else:
            why = done.stdout[-_WHY_BYTES:].decode(errors="replace").strip()
            tell(f"{number} of {len(open_steps)}: FAILED after {took:.0f} s\n{why}")
            failed.append(step.told)
    if is_new:
        tell("an occd that runs now finds what is new when it is started again")
    if failed:
        raise OccdError(f"not installed: {'; '.join(failed)}")
    if not open_steps:
        tell(_NOTHING)


def commands(languages: Sequence[Language], *, versions: bool) -> str:
    """The steps that `install` would run, as a script."""
    needed = [each for each in steps(languages, versions=versions) if each.needed()]
    if not needed:
        return f"# {_NOTHING}"
    return "\n".join(["set -e", *(f"# {each.told}\n{each.script}" for each in needed)])
