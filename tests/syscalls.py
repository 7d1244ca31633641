"""System calls that try the policy, and what becomes of them in a jail, and under Docker's profile.

Whatever the policy says, the kernel does nothing for them that lasts.
"""

import errno
import random
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandboxed import SHORT, Lab, run_in

from occd.model import File
from occd.sandbox.seccomp import Both, Compare, Condition, Either, Not, Rule, policy

_NEVER = 2**64 - 1
"""No descriptor, address, process or set of flags."""
_ELSEWHERE = {-1, *(0x40000000 | number for number in (0, 39, 165, 541, 547))}
"""Calls of other architectures: `int 0x80`, as the prober knows it, and x32."""
_UNHEARD = {500, 1000}
"""What a later kernel may have."""
# They end, wait or begin a process, whatever their arguments; the last two are for the kernel's own code.
_NOT_TRIED = {
    "exit", "exit_group", "fork", "vfork", "pause", "rt_sigreturn", "restart_syscall", "uprobe", "uretprobe",
}  # fmt: skip
_ARGUMENTS = {
    "kill": (0, _NEVER, _NEVER, _NEVER, _NEVER, _NEVER),
    "madvise": (0, 0, _NEVER, 0, 0, 0),
    "msgget": (1, 0, 0, 0, 0, 0),
    "prctl": (_NEVER, 0, 0, 0, 0, 0),
}
_KNOWN = 439
"""libseccomp 2.5.0 has the calls up to this one, of Linux 5.8."""
_EACH = 150
"""Tries of a call whose arguments matter."""

Call = tuple[int, tuple[int, ...]]


def numbers() -> dict[str, int]:
    """Of the calls that the machine's headers and the policy know, by name."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", header, re.MULTILINE)
    return {name: int(number) for name, number in found} | policy().numbers


def calls() -> list[Call]:
    """The same ones each time."""
    made = [(number, arguments) for name, number in numbers().items() for arguments in tries(name)]
    return [*made, *((number, (0,) * 6) for number in sorted(_ELSEWHERE | _UNHEARD))]


def tries(name: str) -> Iterator[tuple[int, ...]]:
    """Arguments for a call of this name."""
    if name in _NOT_TRIED:
        return
    usual = _ARGUMENTS.get(name, (_NEVER,) * 6)
    yield usual
    compared = [each for rule in rules(name) for each in comparisons(rule.condition)]
    if not compared:
        return
    values = {each.argument: [usual[each.argument]] for each in compared}
    for each in compared:
        values[each.argument] += telling(each)
    dice = random.Random(name)
    for _ in range(_EACH):
        tried = [dice.choice(values.get(at, [usual[at]])) for at in range(6)]
        if name == "clone":  # CLONE_SIGHAND without CLONE_VM: EINVAL
            tried[0] = tried[0] & ~0x100 | 0x800
        yield tuple(tried)


def telling(comparison: Compare) -> list[int]:
    """Values at the edges of a comparison. As a process: ourselves, init, or one that cannot be there."""
    value, mask = comparison.value, comparison.mask
    flips = [value ^ 1 << bit for bit in (14, 16, 31, 32, 40, 63)]
    above = value + 1 if value > 1 else 0
    return [0, 1, max(value - 1, 0), above, *flips, mask & -mask, mask, *[value] * 10]


def rules(name: str) -> list[Rule]:
    return [rule for rule in policy().rules if rule.call == name]


def answer(name: str, arguments: Sequence[int], form: str) -> int | None:
    """What the policy says of a call. None: it is made."""
    fit = (
        rule.error
        for rule in rules(name)
        if rule.only in (None, form) and holds(rule.condition, arguments)
    )
    return next(fit, None)


def holds(condition: Condition, arguments: Sequence[int]) -> bool:
    match condition:
        case Both(parts):
            return all(holds(part, arguments) for part in parts)
        case Either(parts):
            return any(holds(part, arguments) for part in parts)
        case Not(part):
            return not holds(part, arguments)
        case Compare(argument, mask, value, at_most):
            masked = arguments[argument] & mask
            return masked <= value if at_most else masked == value


def comparisons(condition: Condition) -> Iterator[Compare]:
    match condition:
        case Both(parts) | Either(parts):
            for part in parts:
                yield from comparisons(part)
        case Not(part):
            yield from comparisons(part)
        case Compare():
            yield condition


def prober(folder: Path) -> Path:
    """A static program that makes calls."""
    program = folder / "syscalls"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


def written(tried: Sequence[Call]) -> str:
    """As the prober reads them."""
    return "".join(f"{number} {' '.join(map(str, arguments))}\n" for number, arguments in tried)


def read(said: bytes | str, tried: Sequence[Call]) -> list[int]:
    results = [int(line) for line in said.split()]
    assert len(results) == len(tried)
    return results


async def in_a_jail(lab: Lab, program: Path, tried: Sequence[Call]) -> list[int]:
    files = (
        File("probe", program.read_bytes(), executable=True),
        File("calls", written(tried).encode()),
    )
    async with lab.cell(*files) as cell:
        ran = await run_in(cell, ["/box/probe", "calls"], SHORT)
    assert ran.outcome.succeeded, ran
    return read(ran.stdout, tried)


def wrong(tried: Sequence[Call], jail: Sequence[int], profile: Sequence[int]) -> list[str]:
    """Calls whose answer in a jail, or under the profile, is not the policy's, with both answers. A call that
    is made has the kernel's answer, which is the same in both. What libseccomp does not know is refused."""
    names = {number: name for name, number in numbers().items()}
    found = []
    for (number, arguments), one, other in zip(tried, jail, profile, strict=True):
        name = names.get(number)
        if number in _ELSEWHERE:
            right = one == other == -signal.SIGSYS
        elif name is None:
            right = one == errno.ENOSYS and other in (errno.ENOSYS, errno.EPERM)
        else:
            by_jail, by_profile = (answer(name, arguments, form) for form in ("nsjail", "docker"))
            right = by_jail in (None, one) and (
                other == (one if by_profile is None else by_profile)
                or (number > _KNOWN and other in (errno.EPERM, errno.ENOSYS))
            )
        if not right:
            found.append(f"{name or number}{[hex(each) for each in arguments]}: {one}, {other}")
    return found
