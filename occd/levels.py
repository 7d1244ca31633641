"""What may stand between a stranger's program and everybody else: properties of a sandbox, and levels, which
are sets of properties.

A backend tells the properties that it has found to hold (`holding`). docs/security.md says what an attacker
gains without each, docs/operating.md how to get each.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, get_args

from occd.errors import ConfigError

Kind = Literal["nsjail", "docker"]
Property = Literal["own-uid", "memory", "cpu", "own-root", "own-kernel"]
"""own-uid: each job has a user id of the machine that no other job has, with Docker no other job of its
engine. memory: the kernel holds the limits of memory, of processes and of CPU time. cpu: the processors are
shared by job, however many sessions a job starts. own-root: programs see no file of the machine. own-kernel:
programs do not call the machine's kernel."""

PROPERTIES: tuple[Property, ...] = get_args(Property)
Holds = tuple[Property, ...]
"""Some of PROPERTIES, in their order."""

LEVELS: dict[str, Holds] = {
    "basic": (),
    "limited": ("memory", "cpu"),
    "separate": ("own-uid", "memory", "cpu"),
    "closed": ("memory", "cpu", "own-root"),
    "virtual": ("memory", "cpu", "own-root", "own-kernel"),
}
"""A later level is the one to name where several hold."""

DEMANDED: dict[Kind, Holds] = {"nsjail": (), "docker": ("memory",)}
"""What is required where nothing is said. In a container that tells its CPU time nobody samples memory."""

_REMEDIES: dict[Kind, dict[Property, str]] = {
    "nsjail": {
        "own-uid": "run occd as root",
        "memory": "run occd as root where control groups can be written, or give its user a control group "
        "(systemd-run --user --scope -p Delegate=yes occd …)",
        "cpu": "give occd a control group with the controller cpu, too",
        "own-root": "set sandbox.images to images that `occd images` has built",
        "own-kernel": "set sandbox.kind: docker and sandbox.runtime: runsc (gVisor)",
    },
    "docker": {
        "own-uid": "take a runtime whose containers call the machine's kernel, such as Docker's own",
        "memory": "take an engine that limits memory (docker info), and runsc without --ignore-cgroups",
        "cpu": "take an engine that limits memory and knows CPU shares (docker info)",
        "own-root": "set sandbox.images",
        "own-kernel": "set sandbox.runtime: runsc (gVisor)",
    },
}


def holding(*, own_uid: bool, memory: bool, cpu: bool, own_root: bool, own_kernel: bool) -> Holds:
    """The properties that were found to hold. Say True only of what was found: a guess would be believed."""
    found: dict[Property, bool] = {
        "own-uid": own_uid,
        "memory": memory,
        "cpu": cpu,
        "own-root": own_root,
        "own-kernel": own_kernel,
    }
    return tuple(each for each in PROPERTIES if found[each])


def read_required(words: Iterable[str]) -> Holds:
    """The properties that these names of properties and levels stand for. Raises ValueError."""
    names: dict[str, Holds] = {**LEVELS, **{each: (each,) for each in PROPERTIES}}
    wanted: set[Property] = set()
    for word in words:
        if word not in names:
            raise ValueError(
                f"{word[:100]!r} is no property of a sandbox and no level; the properties are "
                f"{', '.join(PROPERTIES)}, and the levels {', '.join(LEVELS)}"
            )
        wanted.update(names[word])
    return tuple(each for each in PROPERTIES if each in wanted)


def level(holds: Collection[str]) -> str:
    return [name for name, needs in LEVELS.items() if set(needs) <= set(holds)][-1]


def in_words(holds: Collection[str]) -> str:
    """Also of properties that only another version of occd knows."""
    return f"level {level(holds)}: {', '.join(holds) or 'no property'}"


def without_in_words(holds: Holds) -> str:
    missing = [each for each in PROPERTIES if each not in holds]
    return f"; without {', '.join(missing)}" if missing else ""


def refuse_less(required: Sequence[str] | None, holds: Holds, kind: Kind) -> None:
    """Raises ConfigError, in one line, when a required property does not hold."""
    wanted = DEMANDED[kind] if required is None else required
    if missing := [each for each in PROPERTIES if each in wanted and each not in holds]:
        remedies = "; ".join(f"for {each}, {_REMEDIES[kind][each]}" for each in missing)
        raise ConfigError(
            f"sandbox.require: {', '.join(missing)}: not so here ({in_words(holds)}). "
            f"Require less, or: {remedies}"
        )
