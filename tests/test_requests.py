"""How the JSON of a submission is read, and what is told of its mistakes (`occd/web/submission.py`)."""

from typing import Any

import pytest
from test_api import BAD

from occd.errors import Rejected
from occd.request import Request
from occd.web.submission import parse_submission

HELLO = {"language": "python", "source": "print('hello')"}
TEST = {"expected_stdout": "1"}
PROGRAM = {"language": "python", "source": "", "protocol": "plain"}
GROUPS = {"g": {"points": 1}}


async def read(value: dict[str, Any]) -> Request:
    return await parse_submission(HELLO | value)


async def complaints(value: dict[str, Any]) -> list[str]:
    with pytest.raises(Rejected) as refused:
        await read(value)
    return [f"{each.field} {each.message}" for each in refused.value.errors]


OPTIONAL = [
    *(
        "version",
        "files",
        "stdin",
        "args",
        "env",
        "compile_args",
        "limits",
        "interactive",
        "user_id",
    ),
    *("tests", "groups", "checker", "stop_on_failure", "artifacts", "detached"),
    *("network", "tty", "trace", "interactor", "callback_url"),
]
OF_TESTS = [
    *("name", "stdin", "args", "files", "expected_stdout", "checker", "limits", "group", "weight"),
]
OF_CHECKERS = ["version", "files", "args", "compile_args", "limits"]


async def test_null_is_a_field_that_is_left_out() -> None:
    plain = await read({})
    for name in OPTIONAL:
        assert await read({name: None}) == plain
    (test,) = (await read({"tests": [{}]})).tests
    for name in OF_TESTS:
        assert (await read({"tests": [{name: None}]})).tests == (test,)
    checker = (await read({"checker": {"program": PROGRAM}})).checker
    for name in OF_CHECKERS:
        value = {"checker": {"float": None, "program": PROGRAM | {name: None}}}
        assert (await read(value)).checker == checker
    groups = (await read({"groups": GROUPS})).groups
    for name in ("rule", "needs", "group"):
        assert (await read({"groups": {"g": {"points": 1, name: None}}})).groups == groups
    file = {"name": "a", "content": "", "executable": None}
    assert (await read({"files": [file]})).files[0].executable is False


async def test_null_does_not_hide_a_mistake() -> None:
    assert await complaints({"colour": None}) == ["colour is not a field of a submission"]
    assert await complaints({"language": None}) == ["language is missing"]
    assert await complaints({"tests": [None]}) == ["tests.0 must be an object"]
    assert await complaints({"env": {"A": None}}) == ["env.A must be a string"]


KINDS = (
    'must be "exact", "lines", "tokens", {"float": 1e-6}, {"float": {"abs": 0.01, "rel": 0.01}} or '
    '{"program": {"language": …, "protocol": …, "source": …}}'
)


NO_FLOATS: list[Any] = ["1e-6", True, [], {"x": 1}]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"args": "a b"}, "args must be a list"),
        ({"args": [1]}, "args.0 must be a string"),
        ({"version": 3}, "version must be a string"),
        ({"interactive": 1}, "interactive must be true or false"),
        ({"tty": False}, "tty must be an object"),
        ({"tty": {"rows": 0, "cols": 80}}, "tty.rows must be between 1 and 1000"),
        ({"tty": {"rows": 24, "cols": 10_000}}, "tty.cols must be between 1 and 1000"),
        ({"tty": {"rows": 24}}, "tty.cols is missing"),
        ({"language": ""}, "language must have 1 to 64 characters"),
        ({"user_id": "x" * 257}, "user_id must have 0 to 256 characters"),
        ({"files": [{"content": ""}]}, "files.0.name is missing"),
        ({"artifacts": ["*.png", "out/"]}, 'artifacts.1 must be relative, without "..", '),
        ({"limits": {"memory": 256}}, "limits.memory must be at least 1048576 bytes"),
        ({"limits": {"memory": 64e6}}, "limits.memory must be a whole number"),
        ({"limits": {"cpu_time": -1}}, "limits.cpu_time must be at least 1e-09 seconds"),
        ({"limits": {"cpu_time": "1"}}, "limits.cpu_time must be a number"),
        ({"tests": [TEST | {"weight": "1"}]}, "tests.0.weight must be a number"),
        ({"tests": [TEST], "checker": "float"}, f"checker {KINDS}"),
        ({"tests": [TEST], "checker": 1}, f"checker {KINDS}"),
        ({"tests": [TEST | {"checker": "token"}]}, f"tests.0.checker {KINDS}"),
        ({"checker": {"name": "tokens"}}, f"checker {KINDS}"),
        ({"checker": {}}, f"checker {KINDS}"),
        ({"checker": {"float": None}}, f"checker {KINDS}"),
        ({"checker": {"float": 1, "type": "float"}}, "checker.type is not a field of checker"),
        ({"checker": ["tokens"]}, f"checker {KINDS}"),
        ({"tests": [TEST | {"checker": {"name": "tokens"}}]}, f"tests.0.checker {KINDS}"),
        (
            {"checker": {"source": "..."}},
            f"checker has the fields of a program, which belong below program, and {KINDS}",
        ),
        ({"checker": PROGRAM}, "checker has the fields of a program, which belong below program"),
        (
            {"checker": {"float": 1e-6, "program": PROGRAM}},
            f"checker has both float and program, and {KINDS}",
        ),
        *(
            (
                {"checker": {"float": wrong}},
                'checker.float must be a number, as in 1e-6, or {"abs": 0.01, "rel": 0.01}',
            )
            for wrong in NO_FLOATS
        ),
        (
            {"checker": {"program": "print()"}},
            'checker.program must be an object: {"language": …, "protocol": …, "source": …}',
        ),
        (
            {"checker": {"program": PROGRAM | {"colour": 1}}},
            "checker.program.colour is not a field of program",
        ),
        (
            {"groups": {"g": {"points": 1, "colour": 1}}},
            "groups.g.colour is not a field of groups",
        ),
        (
            {"checker": {"program": PROGRAM | {"protocol": "icpc"}}},
            "checker.program.protocol must be 'plain', 'kattis' or 'testlib'",
        ),
        ({"groups": {"g": {"points": 1, "rule": "any"}}}, "groups.g.rule must be 'sum', 'min' or"),
    ],
)
async def test_a_mistake_is_told_in_plain_words(value: dict[str, Any], told: str) -> None:
    (said,) = await complaints(value)
    assert said.startswith(told)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"idle": 0.5}, "1 second"),
        ({"processes": 0}, "1 process or thread"),
        ({"output": 0}, "1 byte"),
    ],
)
async def test_one_is_told_as_one(limits: dict[str, float], told: str) -> None:
    (said,) = await complaints({"limits": limits})
    assert said.endswith(f"must be at least {told}")


OURS = ("must ", "is ", "has ", "have ", "needs ")


async def test_no_mistake_is_told_in_another_librarys_words() -> None:
    for bad in BAD:
        if isinstance(bad.body, dict):
            try:
                await parse_submission(bad.body)
            except Rejected as refused:
                for each in refused.errors:
                    assert each.message.startswith(OURS), each
                    assert "valid" not in each.message, each
