"""The proof that a jail or a container holds: init, run as a program in it, reports its view (`init.c`,
`prove`)."""

import os
import re
from collections.abc import Callable, Sequence

from occd.errors import SandboxFailed, SandboxUnavailable
from occd.images.users import CONTAINER_USERS
from occd.model import Limits
from occd.sandbox import Run, Sandbox, Sink
from occd.sandbox.find import remedy_of
from occd.sandbox.init import INIT

_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
_RIGHTS = ("Inh", "Prm", "Eff", "Bnd", "Amb")
_NO_SPACES = {"spaces": "refused"}


async def prove(sandbox: Sandbox, what: str, unproven: Callable[[str], list[str]]) -> None:
    """Run the trial job in `what` of each root. Raises SandboxUnavailable when it does not succeed, or claims
    that do not hold are found in what it tells."""
    for root in sandbox.roots:
        await _prove(sandbox, root, what, unproven)


async def _prove(
    sandbox: Sandbox, root: str, what: str, unproven: Callable[[str], list[str]]
) -> None:
    job = f"a trial job in the image {root}" if root else "a trial job"
    limits = Limits()
    language = next(iter(sandbox.languages.values()))
    run = Run([INIT, "prove"], (), limits, Sink(limits.output), Sink(limits.output))
    try:
        async with sandbox.cell(language, (), limits, root) as cell:
            outcome = (await cell.run(run)).outcome
    except SandboxFailed as error:
        raise SandboxUnavailable(f"{job} failed: {error}", remedy_of(error, root)) from error
    if not outcome.succeeded:
        raise SandboxUnavailable(f"{job} ended with {outcome}", "See `occd doctor`")
    if missing := unproven(outcome.stdout.head.decode()):
        raise SandboxUnavailable(
            f"{what} does not hold: {'; '.join(missing)}", "See docs/security.md"
        )


def unproven_of_jail(told: str, uids: range | None) -> list[str]:
    """The claims of the isolation lines that do not hold. `uids` are the host's ids for jails, if jails have
    ids of their own."""
    missing = _rights(told) + _walls(told) + _shared(told, _NAMESPACES)
    mapped = _facts(told).get("uid_map", "0 0")
    if uids and int(mapped.split()[1]) not in uids:
        missing.append(f"user ids are mapped {mapped}")
    return missing


def unproven_of_container(told: str, *, own_kernel: bool) -> list[str]:
    """A kernel of its own is a wall by itself: what it says of namespaces and of system calls is not about
    the machine. But it counts no limits in a namespace that a program made. Containers share the machine's
    user namespace, unless the engine maps users."""
    missing = _user(told)
    if own_kernel:
        missing += _unlike(told, _NO_SPACES)
        return missing + _rights(told, ("Inh", "Prm", "Eff", "Bnd"))  # gVisor has no ambient rights
    return missing + _rights(told) + _walls(told) + _shared(told, _NAMESPACES[1:])


def _user(told: str) -> list[str]:
    """A container's user is its own, in all respects, and programs find its name and its home."""
    facts = _facts(told)
    missing = [
        f"{name} is {' '.join(ids)}"
        for name in ("Uid", "Gid")
        if len(set(ids := facts.get(name, "").split())) != 1 or int(ids[0]) not in CONTAINER_USERS
    ]
    if facts.get("called") != "box /box":
        missing.append("the image does not know its user (`occd images` builds it anew)")
    return missing


def _facts(told: str) -> dict[str, str]:
    return dict(re.findall(r"^(.+?):[ \t]*(.*)$", told, re.MULTILINE))


def _unlike(told: str, wanted: dict[str, str]) -> list[str]:
    facts = _facts(told)
    return [
        f"{name} is {facts.get(name, 'not told')}, not {value}"
        for name, value in wanted.items()
        if facts.get(name) != value
    ]


def _rights(told: str, kinds: Sequence[str] = _RIGHTS) -> list[str]:
    return _unlike(told, {f"Cap{kind}": "0" * 16 for kind in kinds})


def _walls(told: str) -> list[str]:
    wanted = {"Seccomp": "2", "NoNewPrivs": "1", "refused": "yes", "init": "closed"} | _NO_SPACES
    return _unlike(told, wanted | {"terminals": "none", "root": "read-only", "network": "none"})


def _shared(told: str, namespaces: Sequence[str]) -> list[str]:
    facts = _facts(told)
    return [
        f"no {name} namespace of its own"
        for name in namespaces
        if facts.get(name) in (None, os.readlink(f"/proc/self/ns/{name}"))
    ]
