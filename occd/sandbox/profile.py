"""The policy for system calls as a seccomp profile of Docker.

It gives the policy's answer to each call, and is at least as tight as nsjail's form. It names what is made,
not what is refused, because the engine passes over a name that its libseccomp does not know. What it does
not name is refused: with EPERM, and where libseccomp is older than the call with ENOSYS, by runc's own
rule. (No other default can be had: the engine, Docker 28.2, forgets `defaultErrnoRet`.)

Theory of operation. libseccomp compares an argument once in a rule, does not promise which of two rules
wins when both hold, and does not come back from a rule that held in part. So the rules of a call are the
paths of a tree. A level is an argument, in the order of the arguments. The branches of a level exclude one
another. A branch is a set of numbers that agree in some bits (SCMP_CMP_MASKED_EQ). Any set of numbers is a
few of these, so that a branch holds for exactly the calls that the policy has this answer for.
"""

import errno
import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from occd.sandbox.seccomp import ALL_BITS, Both, Compare, Condition, Either, Not, Rule, policy

_DEFAULT = errno.EPERM
_ARGUMENTS = 6
_Bits = tuple[int, int]
"""The numbers whose bits of a mask are those: mask, bits."""
_Test = tuple[int, str, int, int]
"""Argument, and a comparison of libseccomp with its two values."""
_Branch = tuple[tuple[_Test, ...], int | None]
"""Tests that all hold, and the answer to the call. None: the call is made."""
_EVERY = (0, 0)


def for_docker() -> str:
    """The profile, in JSON."""
    calls: dict[str, list[Rule]] = {}
    for rule in policy().rules:
        calls.setdefault(rule.call, []).append(rule)
    entries: dict[_Branch, list[str]] = {((), None): list(policy().made)}
    for call, rules in calls.items():
        for branch in _tree(rules, 0, {}):
            if branch[1] != _DEFAULT:
                entries.setdefault(branch, []).append(call)
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _DEFAULT,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [_entry(calls, *branch) for branch, calls in entries.items()],
    }
    return json.dumps(profile, separators=(",", ":"))


def _entry(calls: list[str], tests: Sequence[_Test], answer: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"names": calls}
    if tests:
        entry["args"] = [
            {"index": argument, "op": f"SCMP_CMP_{how}", "value": one, "valueTwo": two}
            for argument, how, one, two in tests
        ]
    if answer is None:
        return entry | {"action": "SCMP_ACT_ALLOW"}
    return entry | {"action": "SCMP_ACT_ERRNO", "errnoRet": answer}


def _tree(rules: list[Rule], argument: int, known: dict[Compare, bool]) -> list[_Branch]:
    """The branches for the arguments from `argument` on. Comparisons of the others are known."""
    if argument == _ARGUMENTS:
        fit = (rule.error for rule in rules if _holds(rule.condition, known))
        return [((), next(fit, None))]
    comparisons = {
        each for rule in rules for each in _within(rule.condition) if each.argument == argument
    }
    together: dict[tuple[_Branch, ...], list[_Bits]] = {}
    for values, told in _classes(comparisons):
        branches = _tree(rules, argument + 1, known | told)
        together.setdefault(tuple(branches), []).extend(values)
    if len(together) == 1:
        return list(*together)
    return [
        (((argument, *test), *tests), answer)
        for branches, values in together.items()
        for test, (tests, answer) in product(_tests(values), branches)
    ]


def _within(condition: Condition) -> Iterator[Compare]:
    match condition:
        case Both(parts) | Either(parts):
            for part in parts:
                yield from _within(part)
        case Not(part):
            yield from _within(part)
        case Compare():
            yield condition


def _holds(condition: Condition, known: dict[Compare, bool]) -> bool:
    match condition:
        case Both(parts):
            return all(_holds(part, known) for part in parts)
        case Either(parts):
            return any(_holds(part, known) for part in parts)
        case Not(part):
            return not _holds(part, known)
        case Compare():
            return known[condition]


def _classes(
    comparisons: set[Compare],
) -> Iterator[tuple[list[_Bits], dict[Compare, bool]]]:
    """All numbers, parted by what the comparisons say of them."""
    classes: list[tuple[list[_Bits], dict[Compare, bool]]] = [([_EVERY], {})]
    for comparison in sorted(comparisons, key=lambda each: (each.mask, each.value, each.at_most)):
        those = _values(comparison)
        classes = [
            (part, told | {comparison: is_so})
            for values, told in classes
            for part, is_so in ((_common(values, those), True), (_without(values, those), False))
            if part
        ]
    yield from classes


def _values(comparison: Compare) -> list[_Bits]:
    if comparison.at_most:
        return _up_to(comparison.value)
    return [(comparison.mask, comparison.value)]


def _up_to(most: int) -> list[_Bits]:
    """Numbers below `most + 1`: each agrees with that down to a bit that it lacks."""
    end = most + 1
    return [
        (ALL_BITS & ~(2**bit - 1), (end >> bit << bit) - 2**bit)
        for bit in range(end.bit_length())
        if end >> bit & 1
    ]


def _common(values: list[_Bits], others: list[_Bits]) -> list[_Bits]:
    return [
        (mask | other_mask, bits | other_bits)
        for (mask, bits), (other_mask, other_bits) in product(values, others)
        if (bits ^ other_bits) & mask & other_mask == 0
    ]


def _without(values: list[_Bits], others: list[_Bits]) -> list[_Bits]:
    for other in others:
        values = [part for each in values for part in _cut(each, other)]
    return values


def _cut(values: _Bits, other: _Bits) -> Iterator[_Bits]:
    """What the others have not: it differs from them in a bit, and agrees in those above."""
    (mask, bits), (other_mask, other_bits) = values, other
    if (bits ^ other_bits) & mask & other_mask:
        yield values
        return
    for bit in (1 << number for number in reversed(range(64))):
        if other_mask & ~mask & bit:
            mask |= bit
            yield mask, bits | ~other_bits & bit
            bits |= other_bits & bit


def _tests(values: list[_Bits]) -> list[tuple[str, int, int]]:
    """Comparisons of libseccomp, of which exactly one holds for each of the values."""
    parts = _merged(values)
    others = _merged(_without([_EVERY], parts))
    if len(others) == 1 and others[0][0] == ALL_BITS:
        return [("NE", others[0][1], 0)]
    return [("MASKED_EQ", *part) for part in parts]


def _merged(values: list[_Bits]) -> list[_Bits]:
    """The same numbers in fewer parts: two parts that differ in one bit are one."""
    parts = set(values)
    before = 0
    while len(parts) != before:
        before = len(parts)
        for bit in (1 << number for number in range(64)):
            for mask, bits in list(parts):
                if mask & ~bits & bit and (mask, bits | bit) in parts:
                    parts -= {(mask, bits), (mask, bits | bit)}
                    parts.add((mask & ~bit, bits))
    return sorted(parts)
