"""`occd doctor`: what isolation this machine gives, and how to mend what is missing."""

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import trio

from occd.config import Config
from occd.data import data_folder
from occd.errors import ConfigError, SandboxUnavailable
from occd.images import found, status
from occd.levels import in_words, without_in_words
from occd.sandbox import Sandbox, Tell, check_sandbox_settings, kernel, open_sandbox, unheard
from occd.sandbox.cgroup import find_cgroups, obstacle

_ASK_S = 10.0
_UNFORKED = "jails are not forked, which would be sooner, and no template is"
_FORK = "In a container the seccomp profile forbids it (docs/operating.md). Nothing is less safe"


class Grade(Enum):
    OK = "ok"
    WEAK = "weak"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Finding:
    grade: Grade
    text: str
    remedy: str = ""

    @property
    def safe(self) -> bool:
        return self.grade is not Grade.BAD


Look = Callable[[Config, Sandbox], Awaitable[list[Finding]]]


async def examine(config: Config, tell: Tell = unheard, *looks: Look) -> list[Finding]:
    """Look at each thing that a jail needs, then run a job, and then look at what else there is."""
    findings = []
    tell("looking at this machine and its images")
    if config.sandbox.kind == "nsjail":
        findings += [*_files(), *_namespaces(), *_uids(), *_cgroups()]
    findings += _images(config.data_dir)
    if config.sandbox.kind == "docker":
        tell("looking at the images of Docker's engine")
        findings += await _docker_images(config)
    try:
        check_sandbox_settings(config)
        async with open_sandbox(config, tell=tell) as sandbox:
            findings.append(Finding(Grade.OK, "a trial job ran in the sandbox"))
            told = in_words(sandbox.holds) + without_in_words(sandbox.holds)
            findings.append(Finding(Grade.OK, told))
            if sandbox.unforked:
                findings.append(Finding(Grade.WEAK, f"{_UNFORKED}: {sandbox.unforked}", _FORK))
            count = len(sandbox.available)
            grade = Grade.OK if count else Grade.WEAK
            remedy = "" if count else "`occd languages` tells what to install"
            findings.append(
                Finding(grade, f"{count} of {len(sandbox.languages)} languages", remedy)
            )
            for root, why in sandbox.untraced.items() if config.sandbox.trace else ():
                findings.append(Finding(Grade.WEAK, f"no trace{root and f' in {root}'}: {why}"))
            for look in looks:
                findings += await look(config, sandbox)
    except SandboxUnavailable as error:
        findings += [Finding(Grade.BAD, each.message, _trial_remedy(each)) for each in error.each]
    except ConfigError as error:  # or what is required does not hold
        findings.append(Finding(Grade.BAD, str(error)))
    return findings


def _images(data_dir: Path) -> Iterator[Finding]:
    try:
        images = found(data_dir)
    except ConfigError as error:
        yield Finding(Grade.WEAK, str(error))
        return
    for image in images:
        try:
            stale, words = status.stale(image), status.in_words(image)
        except ConfigError as error:  # of its description
            yield Finding(Grade.WEAK, str(error))
            continue
        remedy = f"Build it anew, as root: occd images {image.name}" if stale else ""
        yield Finding(Grade.WEAK if stale else Grade.OK, f"image {image.name}: {words}", remedy)


async def _docker_images(config: Config) -> list[Finding]:
    """Of an engine that does not answer in time nothing: the trial job tells of it."""
    with trio.move_on_after(_ASK_S):
        return await trio.to_thread.run_sync(
            lambda: list(_docker_images_now(config)), abandon_on_cancel=True
        )
    return []


def _docker_images_now(config: Config) -> Iterator[Finding]:
    """The SDK bounds each wait for the engine, and an engine may send a byte at a time."""
    from occd.images.docker import behind

    for name in config.sandbox.roots:
        try:
            told = behind(config.sandbox.host, config.data_dir, name)
        except ConfigError as error:
            told = (str(error), "")
        if told:
            yield Finding(Grade.WEAK, *told)


def _trial_remedy(error: SandboxUnavailable) -> str:
    if "/proc has overmounts" in str(error):  # nsjail's words
        return "In a container: systempaths=unconfined, or procMount: Unmasked (docs/operating.md)"
    return error.remedy


def _files() -> Iterator[Finding]:
    init = data_folder("sandbox") / "bin/occd-init"
    if not os.access(init, os.X_OK):
        yield Finding(
            Grade.BAD, f"{init} is missing", "Install occd again with a C compiler: pip install ."
        )


def _namespaces() -> Iterator[Finding]:
    try:
        user = kernel.enter_private_mounts()
    except OSError as error:
        yield Finding(Grade.BAD, f"no mount namespace of our own: {error}", _namespace_remedy())
        return
    who = "root" if user.uid == 0 else f"user {user.uid}, by a user namespace"
    yield Finding(Grade.OK, f"namespaces as {who}")


def _namespace_remedy() -> str:
    settings = {
        "/proc/sys/kernel/unprivileged_userns_clone": (
            "0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=10000"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
    for path, (bad, remedy) in settings.items():
        if Path(path).exists() and Path(path).read_text().strip() == bad:
            return f"As root: {remedy}"
    if Path("/.dockerenv").exists():
        return "In a container: a seccomp profile that allows user namespaces (docs/operating.md)"
    return "Run as root, or allow unprivileged user namespaces"


def _uids() -> Iterator[Finding]:
    try:
        uids = kernel.enter_private_mounts().slot_uids
    except OSError:
        return
    if uids:
        text = f"each job has a host user id of its own, from {uids.start} to {uids.stop - 1}"
        yield Finding(Grade.OK, text)
    else:
        remedy = (
            "Run as root to give each job a host user id; namespaces and seccomp hold either way"
        )
        yield Finding(Grade.WEAK, "all jobs run as one host user id", remedy)


def _cgroups() -> Iterator[Finding]:
    found = find_cgroups()
    remedy = (
        "Run as root, or give this user a cgroup: systemd-run --user --scope -p Delegate=yes occd …"
    )
    if found:
        yield Finding(Grade.OK, f"memory, processes and CPU time by cgroup v{found.version}")
        remedy = "Delegate the controller `cpu` too"
    else:
        weaker = "no cgroup is ours: memory and CPU time are sampled every 10 ms"
        in_container = "In a container: a writable control group (docs/operating.md, Exact limits)"
        yield Finding(Grade.WEAK, weaker, f"{obstacle()}. {remedy}. {in_container}")
    if not found or not found.shares_cpu:
        weaker = "a job that starts many sessions takes the processors from its neighbours"
        yield Finding(Grade.WEAK, weaker, remedy)
