"""Which system calls a program may make: `policy/seccomp.toml`, and nsjail's form of it. `profile.py` has
Docker's."""

import ast
import errno
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from occd.data import data_folder

ALL_BITS = 2**64 - 1
_X32 = 0x40000000
_X32_CALLS = 640
"""x32 has the architecture of x86-64, and numbers of its own for the same calls. Kafel does not look for
these: where a kernel has x32, all calls would be made. Linux 6.18 has 548."""


@dataclass(frozen=True, slots=True)
class Compare:
    """`argument` (counted from 0), of which only the bits of `mask` count, is `value`; or at most `value`."""

    argument: int
    mask: int
    value: int
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Both:
    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    part: "Condition"


Condition = Compare | Both | Either | Not
ALWAYS = Both(())


@dataclass(frozen=True, slots=True)
class Rule:
    """A call that fulfils the condition is not made, and returns `error` (0: success)."""

    call: str
    condition: Condition
    error: int
    only: str | None = None
    """The form that has the rule; None: each."""


@dataclass(frozen=True, slots=True)
class Policy:
    rules: tuple[Rule, ...]
    """The first that fits a call counts."""
    made: tuple[str, ...]
    """The other calls of the kernel that was reviewed."""
    numbers: dict[str, int]
    """Of calls that nsjail knows by no name, or by another."""


@cache
def policy() -> Policy:
    """Raises ValueError when the file says what cannot be read."""
    read = tomllib.loads((data_folder("sandbox") / "policy/seccomp.toml").read_text())
    return Policy(tuple(_rules(read["refused"])), tuple(read["made"]), read["numbers"])


def for_nsjail() -> str:
    """The policy in nsjail's language, Kafel."""
    rules = [_kafel_rule(rule) for rule in policy().rules if rule.only != "docker"]
    x32 = ", ".join(f"SYSCALL[{_X32 + number}]" for number in range(_X32_CALLS))
    return f"POLICY occd {{ {', '.join(rules)}, KILL {{ {x32} }} }} USE occd DEFAULT ALLOW"


def _rules(tables: list[dict[str, Any]]) -> Iterator[Rule]:
    for table in tables:
        error = 0 if table["answer"] == "success" else getattr(errno, table["answer"])
        only = table.get("only")
        for call in table.get("calls", ()):
            yield Rule(call, ALWAYS, error, only)
        for head, text in table.get("when", {}).items():
            call, _, names = head.removesuffix(")").partition("(")
            condition = ast.parse(f"({text}\n)", mode="eval").body
            yield Rule(call, _read(condition, names.split(", ")), error, only)


def _read(condition: ast.expr, names: list[str]) -> Condition:
    match condition:
        case ast.BoolOp(ast.And(), parts):
            return Both(tuple(_read(part, names) for part in parts))
        case ast.BoolOp(ast.Or(), parts):
            return Either(tuple(_read(part, names) for part in parts))
        case ast.UnaryOp(ast.Not(), part):
            return Not(_read(part, names))
        case ast.Compare(ast.Name(name), [how], [right]):
            return _compared(names.index(name), ALL_BITS, how, ast.literal_eval(right))
        case ast.Compare(
            ast.BinOp(ast.Name(name), ast.BitAnd(), ast.Constant(int(mask))), [how], [right]
        ):
            return _compared(names.index(name), mask, how, ast.literal_eval(right))
    raise ValueError(f"seccomp.toml: {ast.unparse(condition)}")


def _compared(argument: int, mask: int, how: ast.cmpop, right: Any) -> Condition:
    match how:
        case ast.Eq():
            return Compare(argument, mask, right)
        case ast.NotEq():
            return Not(Compare(argument, mask, right))
        case ast.In():
            return Either(tuple(Compare(argument, mask, value) for value in right))
        case ast.LtE() if mask == ALL_BITS:
            return Compare(argument, mask, right, at_most=True)
        case ast.Gt() if mask == ALL_BITS:
            return Not(Compare(argument, mask, right, at_most=True))
    raise ValueError(f"seccomp.toml: {type(how).__name__} {right}")


def _kafel_rule(rule: Rule) -> str:
    number = policy().numbers.get(rule.call)
    text = rule.call if number is None else f"SYSCALL[{number}]"
    if rule.condition != ALWAYS:
        text += f"(a0, a1, a2, a3, a4, a5) {{ {_kafel(rule.condition)} }}"
    return f"ERRNO({rule.error}) {{ {text} }}"


def _kafel(condition: Condition) -> str:
    match condition:
        case Both(parts):
            return f"({' && '.join(map(_kafel, parts))})"
        case Either(parts):
            return f"({' || '.join(map(_kafel, parts))})"
        case Not(part):
            return f"!({_kafel(part)})"
        case Compare(argument, mask, value, at_most):
            left = f"a{argument}" if mask == ALL_BITS else f"(a{argument} & {mask:#x})"
            return f"{left} {'<=' if at_most else '=='} {value:#x}"
