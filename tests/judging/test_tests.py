"""Which tests, groups and checkers a submission may have (`occd/judging.py`)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter, with_config

from occd import judging as j
from occd.inputs import File, Limits
from occd.rules import Broken

MIB = 2**20


def one(name: str, **fields: Any) -> j.Test:
    return j.Test(name, **{"expected_stdout": b"", **fields})


def some(*groups: str | None, **fields: Any) -> tuple[j.Test, ...]:
    """One test in each of these groups."""
    return tuple(one(str(at), group=group, **fields) for at, group in enumerate(groups))


def group(name: str, *needs: str, inside: str | None = None, **fields: Any) -> j.Group:
    return j.Group(name, **{"points": 10, "needs": needs, "group": inside, **fields})


def program(**fields: Any) -> j.ProgramChecker:
    main = File("check.py", b"")
    return j.ProgramChecker(
        **{"language": "python", "main": "check.py", "files": (main,), "protocol": "plain"} | fields
    )


def chained(count: int) -> tuple[j.Group, ...]:
    """Each lies in the one before."""
    return tuple(group(f"g{at}", inside=f"g{at - 1}" if at else None) for at in range(count))


def files(count: int, size: int = 0) -> tuple[File, ...]:
    return tuple(File(f"f{at}", bytes(size)) for at in range(count))


FINE: list[Callable[[], object]] = [
    lambda: j.Judging(()),
    lambda: j.Judging(some(None, None)),
    lambda: j.Judging(tuple(one(str(at)) for at in range(j.TESTS_MAX))),
    lambda: j.Judging((one("näme 1/3"),)),
    lambda: j.Judging((one("n" * 100),)),
    lambda: j.Judging(some("a", "b"), (group("a"), group("b", "a"))),
    lambda: j.Judging(some("b"), (group("a"), group("b", inside="a"))),
    lambda: j.Judging(some(f"g{j.GROUP_DEPTH_MAX - 1}"), chained(j.GROUP_DEPTH_MAX)),
    lambda: j.Judging(some("a", "b"), (group("a", points=0), group("b", "a"))),
    lambda: j.Judging(some("a", weight=0), (group("a", rule="min"),)),
    lambda: j.Judging((one("1", expected_stdout=None),), checker=program()),
    lambda: j.Judging((one("1", expected_stdout=None, checker=program()),)),
    lambda: j.Judging((one("1", stdin=bytes(64 * MIB - 1)),)),
    lambda: j.FloatChecker(),
    lambda: j.FloatChecker(absolute=1e-6),
    lambda: program(args=("a", "b")),
]


@pytest.mark.parametrize("make", FINE)
def test_all_of_these_may_be_asked_for(make: Callable[[], object]) -> None:
    make()


BROKEN: list[tuple[Callable[[], object], str]] = [
    (lambda: one(""), "name: must have 1 to 100 characters"),
    (lambda: one("n" * 101), "name: must have 1 to 100 characters"),
    (lambda: one("a\nb"), "name: has a control character"),
    (lambda: one("a\udc00"), "name: has a lone surrogate"),
    (lambda: one("1", weight=-1), "weight: must be between 0 and 1000000000"),
    (lambda: one("1", weight=float("nan")), "weight: must be between 0 and 1000000000"),
    (lambda: one("1", weight=float("inf")), "weight: must be between 0 and 1000000000"),
    (lambda: one("1", args=("a\0",)), "args: has a NUL"),
    (lambda: one("1", files=files(201)), "files: must be at most 200"),
    (lambda: one("1", files=files(1) * 2), "files: two have the name f0"),
    (lambda: group(""), "name: must have 1 to 100 characters"),
    (lambda: group("a", points=-1), "points: must be between 0 and 1000000000"),
    (lambda: group("a", points=float("nan")), "points: must be between 0 and 1000000000"),
    (lambda: group("a", *["b"] * 201), "needs: must be at most 200"),
    (lambda: j.FloatChecker(absolute=-1e-6), "abs: must be a number from 0 up"),
    (lambda: j.FloatChecker(absolute=float("inf")), "abs: must be a number from 0 up"),
    (lambda: j.FloatChecker(relative=float("nan")), "rel: must be a number from 0 up"),
    (lambda: program(main="other.py"), "main: is none of the files"),
    (lambda: program(files=()), "main: is none of the files"),
    (lambda: program(language=""), "language: must have 1 to 64 characters"),
    (
        lambda: program(version="x"),
        "version: must be whole numbers with dots between them, as in 3.11",
    ),
    (
        lambda: program(limits=Limits(box=4096), files=(File("check.py", bytes(4097)),)),
        "files: do not fit into the box, which has 4096 bytes",
    ),
    (lambda: j.Judging(some(*[None] * 1001)), "tests: must be at most 1000"),
    (lambda: j.Judging(some(None) * 2), "tests.1.name: 0 is the name of an earlier one, too"),
    (
        lambda: j.Judging(some("a"), (group("a"),) * 2),
        "groups.1.name: a is the name of an earlier one, too",
    ),
    (
        lambda: j.Judging(some("a"), tuple(group(f"g{at}") for at in range(201))),
        "groups: must be at most 200",
    ),
    (lambda: j.Judging(some(None, "a")), "tests.1.group: is not one of the groups"),
    (lambda: j.Judging(some(None), (group("a"),)), "groups: a has no tests"),
    (lambda: j.Judging(some("a"), (group("a", "a"),)), "groups: a needs itself"),
    (
        lambda: j.Judging(some("a"), (group("a", "b"),)),
        "groups: a needs a group that is not there",
    ),
    (
        lambda: j.Judging(some("a", "b"), (group("a", "b"), group("b"))),
        "groups: a needs b, whose tests must all come before its own",
    ),
    (
        lambda: j.Judging(some("a", "b"), (group("a", "b"), group("b", "a"))),
        "groups: a needs b, whose tests must all come before its own",
    ),
    (
        lambda: j.Judging(some("b", "a", "b"), (group("a"), group("b", "a"))),
        "groups: b needs a, whose tests must all come before its own",
    ),
    (
        lambda: j.Judging(some("a", "b", "a"), (group("a"), group("b", "a"))),
        "groups: b needs a, whose tests must all come before its own",
    ),
    (
        lambda: j.Judging(some("b"), (group("a"), group("b", "a", inside="a"))),
        "groups: b needs a, whose tests must all come before its own",
    ),
    (lambda: j.Judging(some("a"), (group("a", inside="a"),)), "groups: a lies within itself"),
    (
        lambda: j.Judging(some("a"), (group("a", inside="b"), group("b", inside="a"))),
        "groups: a lies within itself",
    ),
    (
        lambda: j.Judging(some("c"), (group("c", inside="a"), group("a", inside="a"))),
        "groups: a lies within itself",
    ),
    (
        lambda: j.Judging(some("a"), (group("a", inside="b"),)),
        "groups: a lies in a group that is not there",
    ),
    (
        lambda: j.Judging(some("g16"), chained(j.GROUP_DEPTH_MAX + 1)),
        "groups: lie more than 16 deep",
    ),
    (
        lambda: j.Judging(some(None, weight=0)),
        "tests: have only weights, or groups with points, that are 0",
    ),
    (
        lambda: j.Judging(some("a"), (group("a", points=0),)),
        "tests: have only weights, or groups with points, that are 0",
    ),
    (
        lambda: j.Judging(some("a", weight=0), (group("a"),)),
        "groups: a has only weights that are 0",
    ),
    (
        lambda: j.Judging((one("1", expected_stdout=None),)),
        "tests.0.expected_stdout: is missing: the checker compares the output with it",
    ),
    (
        lambda: j.Judging(some(None, expected_stdout=None, checker=j.FloatChecker())),
        "tests.0.expected_stdout: is missing: the checker compares the output with it",
    ),
    (
        lambda: j.Judging((one("1", stdin=bytes(64 * MIB)),)),
        "tests: and their checkers exceed 67108864 bytes together",
    ),
    (
        lambda: j.Judging(some(None, None, expected_stdout=bytes(32 * MIB))),
        "tests: and their checkers exceed 67108864 bytes together",
    ),
    (
        lambda: j.Judging(
            some(None, files=files(1, 40 * MIB)),
            checker=program(files=(File("check.py", bytes(30 * MIB)),)),
        ),
        "tests: and their checkers exceed 67108864 bytes together",
    ),
    (
        lambda: j.Judging(
            some(None),
            checker=program(
                files=(File("check.py", bytes(65 * MIB)),), limits=Limits(box=128 * MIB)
            ),
        ),
        "tests: and their checkers exceed 67108864 bytes together",
    ),
    (
        lambda: j.Judging(
            some(*[None] * 33, checker=program(files=(File("check.py", bytes(2 * MIB)),)))
        ),
        "tests: and their checkers exceed 67108864 bytes together",
    ),
    (
        lambda: j.Judging(
            some(None, checker=j.TextChecker()),
            checker=program(
                files=(File("check.py", bytes(65 * MIB)),), limits=Limits(box=128 * MIB)
            ),
        ),
        "tests: and their checkers exceed 67108864 bytes together",
    ),
    (
        lambda: j.Judging(some(*[None] * 21, args=("a",) * 1000)),
        "tests: have more than 20000 args together",
    ),
    (
        lambda: j.Judging(some(*[None] * 26, files=files(200))),
        "tests: have more than 5000 files together",
    ),
    (
        lambda: j.Judging(tuple(one(str(at), checker=program(args=(str(at),))) for at in range(5))),
        "tests: have more than 4 programs as checkers",
    ),
]


@pytest.mark.parametrize(
    ("make", "error"), BROKEN, ids=lambda each: each if isinstance(each, str) else ""
)
def test_each_fault_is_one_clear_error(make: Callable[[], object], error: str) -> None:
    with pytest.raises(Broken) as caught:
        make()
    assert str(caught.value) == error


def test_a_checker_of_many_tests_is_compiled_once() -> None:
    checkers = [program() for _ in range(100)]
    judging = j.Judging(tuple(one(str(at), checker=each) for at, each in enumerate(checkers)))
    assert judging.programs == (checkers[0],)


def test_a_test_without_a_checker_has_that_of_all() -> None:
    own = one("1", checker=j.FloatChecker())
    judging = j.Judging((own, one("2")), checker=j.TextChecker("exact"))
    assert [judging.checker_of(test) for test in judging.tests] == [own.checker, judging.checker]


def test_files_of_a_test_must_go_together_with_those_of_the_submission() -> None:
    judging = j.Judging((one("1"), one("2", files=files(2, 4096))))
    judging.fits((File("main.py", bytes(4096)),), 3 * 4096)
    for sent, box, error in (
        (File("main.py", bytes(4097)), 3 * 4096, "do not fit into the box, which has 12288 bytes"),
        (File("f1", b""), MIB, "two have the name f1"),
        (File("f1/a", b""), MIB, "f1 is both a file and a folder"),
    ):
        with pytest.raises(Broken) as caught:
            judging.fits((sent,), box)
        assert str(caught.value) == f"tests.1.files: {error}"
    below = j.Judging((one("1", files=(File("a/b/c", b""), File("a/d", b""))),))
    below.fits((File("a/b/e", b""),), MIB)
    with pytest.raises(Broken, match="a/b is both a file and a folder"):
        below.fits((File("a/b", b""),), MIB)


def test_a_judging_is_read_as_it_was_written() -> None:
    """Which kind of checker it is follows from `kind` alone."""

    @with_config(
        ConfigDict(strict=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
    )
    @dataclass(frozen=True)
    class Message:
        judging: j.Judging

    checkers = (None, j.TextChecker(), j.TextChecker("exact"), j.FloatChecker(1e-6), program())
    judging = j.Judging(
        tuple(
            one(str(at), checker=each, group="a", limits=Limits())
            for at, each in enumerate(checkers)
        ),
        (group("a", rule="min"),),
        checker=program(args=("x",), limits=Limits(output=5)),
        stop_on_failure=True,
    )
    adapter = TypeAdapter(Message)
    assert adapter.validate_json(adapter.dump_json(Message(judging))).judging == judging


def test_a_test_keeps_its_place_in_nested_groups() -> None:
    groups = a, b, c = group("a"), group("b", inside="a"), group("c", inside="b")
    judging = j.Judging(some("c", None), groups)
    assert judging.paths == {None: (), "a": (a,), "b": (b, a), "c": (c, b, a)}
    assert replace(judging, stop_on_failure=True).paths == judging.paths
