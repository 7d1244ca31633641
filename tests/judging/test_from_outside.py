"""What a client sees of tests and checkers, over HTTP, of a real daemon with real jails."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from everywhere import EVERYWHERE_IN_ALL, may_lack, serving_at
from meeting import meeting
from serving import Server, connected, serving
from test_examples import PAGE
from test_real_checkers import ENDS, SCORING, folder

T = {"stdin": "1", "expected_stdout": "1"}
ECHO = "print(input())"


@pytest.fixture(scope="module", params=EVERYWHERE_IN_ALL)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("judge")
    with serving_at(request, folder / "data", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All tests together have three seconds."""
    folder = tmp_path_factory.mktemp("hasty") / "data"
    with serving(folder, execute__slots="1", ceilings__total_time="3") as server:
        yield server


def program(source: str, protocol: str = "plain", language: str = "python", **more: Any) -> Any:
    given = {"language": language, "source": source, "protocol": protocol}
    return {"program": given | more}


def verdicts(result: dict[str, Any]) -> list[str]:
    return [test["verdict"] for test in result["tests"]]


async def events(server: Server, id: str) -> list[dict[str, Any]]:
    """Until it has finished."""
    async with connected(server) as client:
        await client.ask("subscribe", id=id, after=0)
        return [frame["event"] for frame in await client.until(id, "finished")]


# Verdicts

SOLUTIONS = {
    "cpp": r"""
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
int main() {
    std::string how;
    std::cin >> how;
    if (how == "exit") return 3;
    if (how == "crash") abort();
    if (how == "spin") for (;;) {}
    if (how == "memory") for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    if (how == "flood") for (;;) std::cout << std::string(9999, 'x');
    std::cout << how << "\n";
}
""",
    "python": """
import os, sys
how = input()
if how == "exit": sys.exit(3)
if how == "crash": os.abort()
while how == "spin": pass
if how == "memory": bytes(2 ** 30).replace(b"\\0", b"a")
while how == "flood": print("x" * 9999)
print(how)
""",
    "java": """
import java.util.*;
public class Main {
    public static void main(String[] args) throws Exception {
        String how = new Scanner(System.in).next();
        if (how.equals("exit")) System.exit(3);
        if (how.equals("crash")) throw new Exception("of mine");
        while (how.equals("spin")) {}
        List<byte[]> kept = new ArrayList<>();
        while (how.equals("memory")) kept.add(new byte[1 << 20]);
        while (how.equals("flood")) System.out.println("x".repeat(9999));
        System.out.println(how);
    }
}
""",
    "go": """
package main
import ("fmt"; "os"; "strings")
func main() {
    var how string
    fmt.Scan(&how)
    if how == "exit" { os.Exit(3) }
    if how == "crash" { panic("of mine") }
    for how == "spin" {}
    kept := [][]byte{}
    for how == "memory" { kept = append(kept, []byte(strings.Repeat("x", 1 << 20))) }
    for how == "flood" { fmt.Println(strings.Repeat("x", 9999)) }
    fmt.Println(how)
}
""",
}
WAYS = {
    "right": "accepted",
    "wrong": "wrong_answer",
    "exit": "runtime_error",
    "crash": "runtime_error",
    "spin": "time_limit",
    "memory": "memory_limit",
    "flood": "output_limit",
    "fault": "checker_error",
    "last": "skipped",
}
PLAIN = """
import sys
given, expected, output = (open(path).read().split() for path in sys.argv[1:4])
assert given == expected
sys.exit({"fault": 9, "wrong": 1}.get(output[0], given != output))
"""


def every_verdict(language: str) -> dict[str, Any]:
    """A test of each way. The wrong one and the fault are the word of the checker."""
    tests: list[dict[str, Any]] = [
        {"name": how, "stdin": how + "\n", "expected_stdout": how + "\n", "group": "all"}
        for how in WAYS
    ]
    tests[-1]["group"] = "last"
    for test, checker in zip(tests, ("exact", "tokens", "lines", {"float": 1e-6}), strict=False):
        if test["name"] != "wrong":
            test["checker"] = checker
    return {
        "language": language,
        "source": SOLUTIONS[language],
        "limits": {"cpu_time": 1, "wall_time": 30, "memory": 256 * 2**20, "output": 2**18},
        "tests": tests,
        "groups": {"all": {"points": 80}, "last": {"points": 20, "needs": ["all"]}},
        "checker": program(PLAIN),
    }


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Processes that spin beside."""
    with ExitStack() as stack:
        for _ in range(number):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.mark.parametrize("spinning", [0, 2], ids=["idle", "busy"])
def test_every_verdict_in_every_language(server: Server, spinning: int) -> None:
    with busy(spinning):
        offered = [each for each in SOLUTIONS if not may_lack(server, each)]
        ids = {each: server.submit(**every_verdict(each)) for each in offered}
        for language, id in ids.items():
            result = server.result(id)
            found = {test["name"]: test["verdict"] for test in result["tests"]}
            assert found == WAYS, (language, result)
            assert result["verdict"] == "wrong_answer"
            assert result["points_max"] == 100
            assert result["points"] == pytest.approx(80 / 8)


BY_PROTOCOL = {
    "plain": "import sys; given, expected, output = (open(path).read() for path in sys.argv[1:4]); "
    "sys.exit(output != expected)",
    "kattis": "import sys; sys.exit(42 if sys.stdin.read() == open(sys.argv[2]).read() else 43)",
    "testlib": "import sys; given, output, expected = (open(path).read() for path in sys.argv[1:4]); "
    "sys.exit(output != expected)",
}


def test_every_verdict_and_every_kind_of_checker_over_rabbitmq_and_redis(tmp_path: Path) -> None:
    """In one language: execute judges, and knows no broker and no state. What differs is how its events and
    its result are carried, stored and read."""
    asked, ways = every_verdict("python"), dict(WAYS)
    for protocol, source in BY_PROTOCOL.items():
        for word, verdict in (("yes", "accepted"), ("no", "wrong_answer")):
            test = {"name": f"{protocol} {word}", "stdin": "yes\n", "expected_stdout": f"{word}\n"}
            test |= {"group": "all", "checker": program(source, protocol)}
            asked["tests"].insert(-1, test)
            ways[f"{protocol} {word}"] = verdict
    with meeting() as met, serving(tmp_path / "data", languages='["python"]', **met) as server:
        result = server.run(**asked)
        told = trio.run(events, server, result["id"])
    assert {test["name"]: test["verdict"] for test in result["tests"]} == ways
    assert {e["title"]: e["verdict"] for e in told if e["name"] == "test"} == ways
    assert (result["verdict"], result["points_max"]) == ("wrong_answer", 100)
    assert result["points"] == pytest.approx(80 / 14 * 4)


# Checkers that other people wrote

QUICKLY = ["-O0"]


def with_testlib(source: str) -> Any:
    header = folder("rbx", "resources", "predownloaded", "testlib.h").read_text()
    files = [{"name": "testlib.h", "content": header}]
    return program(source, "testlib", "cpp", files=files, compile_args=QUICKLY)


def test_real_checkers_work_in_the_jail(server: Server) -> None:
    """All of them for one submission, whose output is a line of its arguments."""
    wcmp = folder("rbx", "resources", "predownloaded", "checkers", "wcmp.cpp").read_text()
    validator = folder(
        "bapctools", "resources", "support", "default_output_validator.cpp"
    ).read_text()
    default = program(
        validator, "kattis", "cpp", args=["float_tolerance", "1e-4"], compile_args=QUICKLY
    )
    points = program(SCORING.decode(), "kattis", "cpp")
    ends, words = with_testlib(ENDS), with_testlib(wcmp)
    cases: list[tuple[Any, str, str, str, float, str]] = [
        # the checker, the expected output, the output, and what becomes of it
        (words, "a b", "a b", "accepted", 1, "ok 2 tokens"),
        (words, "a b", "a c", "wrong_answer", 0, "wrong answer 2nd words differ"),
        (ends, "part 50", "", "accepted", 0.25, "partially correct (50) some"),
        (ends, "part 0", "", "wrong_answer", 0, "partially correct (0) some"),
        (ends, "points 5", "", "accepted", 0.25, "points 5.0 of all"),
        (ends, "pe", "", "wrong_answer", 0, "wrong output format strange"),
        (ends, "fail", "", "checker_error", 0, "The checker reports a fault"),
        (ends, "abort", "", "checker_error", 0, "The checker was killed by SIGABRT."),
        (default, "1.0", "1.00001", "accepted", 1, ""),
        (default, "1.0", "1.1", "wrong_answer", 0, "1.1"),
        (points, "", "score.txt 15", "accepted", 0.75, "As you wish."),
        (points, "", "score.txt 21", "checker_error", 0, "The checker gave 21"),
    ]  # fmt: skip
    tests = [
        {"args": output.split(), "expected_stdout": expected, "checker": checker, "weight": 20}
        for checker, expected, output, *_ in cases
    ]
    id = server.submit("import sys; print(*sys.argv[1:])", tests=tests)
    result = server.result(id)
    for test, (_, _, _, verdict, share, message) in zip(result["tests"], cases, strict=True):
        assert (test["verdict"], test["score"]) == (verdict, share), test
        assert message in test["message"]
    assert result["points"] == pytest.approx(20 * sum(case[4] for case in cases))


@pytest.mark.parametrize("language", ["cpp", "java", "go"])
def test_a_checker_may_be_in_another_language_than_the_solution(
    server: Server, language: str
) -> None:
    """Each is given three paths, and rejects what differs from the expected output."""
    if may_lack(server, language):
        pytest.skip("the image is without it")
    result = server.run(
        ECHO, checker=program(COMPARES[language], language=language), tests=[T, T | {"stdin": "2"}]
    )
    assert verdicts(result) == ["accepted", "wrong_answer"], result


@pytest.mark.parametrize("language", ["cpp", "java", "go"])
async def test_a_checker_that_comes_again_is_not_compiled_again(
    server: Server, language: str
) -> None:
    if may_lack(server, language):
        pytest.skip("the image is without it")
    source = f"// of this test alone\n{COMPARES[language]}"
    checker = program(source, language=language)
    compiled = []
    for _ in range(2):
        id = server.submit(ECHO, checker=checker, tests=[T, T | {"stdin": "2"}])
        (end,) = [
            event["outcome"]
            for event in await events(server, id)
            if (event.get("stage"), event.get("program")) == ("compile", "checker")
            and event["phase"] == "end"
        ]
        compiled.append(not end["cached"])
        assert verdicts(server.look(id)) == ["accepted", "wrong_answer"]
    assert compiled == [True, False]


def test_a_checker_has_as_much_room_when_it_is_not_compiled_again(server: Server) -> None:
    """The checker tells how much it could write."""
    source = """
#include <csignal>
#include <fcntl.h>
#include <iostream>
#include <string>
#include <unistd.h>
int main() {
    signal(SIGXFSZ, SIG_IGN);
    static char page[4096];
    long pages = 0, before = -1;
    for (int at = 0; pages != before; at++) {
        before = pages;
        int file = open(("more" + std::to_string(at)).c_str(), O_CREAT | O_WRONLY, 0600);
        while (write(file, page, sizeof page) == sizeof page) pages++;
    }
    std::cout << pages;
}
"""
    checker = program(source, language="cpp")
    first, second = (server.run(ECHO, checker=checker, tests=[T])["tests"][0] for _ in range(2))
    assert first["verdict"] == second["verdict"] == "accepted", (first, second)
    assert int(first["message"]) > 1000
    assert first["message"] == second["message"]


COMPARES = {
    "cpp": """
#include <fstream>
#include <string>
int main(int, char **argv) {
    std::string expected, output;
    std::ifstream(argv[2]) >> expected;
    std::ifstream(argv[3]) >> output;
    return expected != output;
}
""",
    "java": """
import java.nio.file.*;
public class Check {
    public static void main(String[] args) throws Exception {
        String expected = Files.readString(Path.of(args[1])), output = Files.readString(Path.of(args[2]));
        System.exit(expected.strip().equals(output.strip()) ? 0 : 1);
    }
}
""",
    "go": """
package main
import ("bytes"; "os")
func main() {
    expected, _ := os.ReadFile(os.Args[2])
    output, _ := os.ReadFile(os.Args[3])
    if !bytes.Equal(bytes.TrimSpace(expected), bytes.TrimSpace(output)) { os.Exit(1) }
}
""",
}


# Bad checkers: the author is told, and nothing else suffers

KATTIS = """
import os, sys
folder = sys.argv[3]
def put(name, text): open(folder + name, "w").write(text)
"""
LEFT = "The checker left a score that cannot be read."
BAD: dict[str, tuple[Any, str]] = {
    "does not compile": (
        program("int main(", language="cpp"),
        "The checker does not compile.\nmain.cpp:1",
    ),
    "compiles for ever": (
        program('#include "/dev/zero"', language="cpp"),
        "The checker does not compile.",
    ),
    "loops": (
        program("while True: pass", limits={"cpu_time": 0.3}),
        "The checker met its limit cpu_time.",
    ),
    "sleeps": (
        program("import time; time.sleep(99)", limits={"wall_time": 0.5}),
        "The checker met its limit wall_time.",
    ),
    "takes memory": (program("x = b'x' * 10**10"), "The checker met its limit memory."),
    "floods stdout": (
        program("while True: print('x' * 9999)"),
        "The checker met its limit output.",
    ),
    "floods stderr": (
        program("import sys\nwhile True: print('x' * 9999, file=sys.stderr)"),
        "The checker met its limit output.\nxxx",
    ),
    "forks": (
        program(
            "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
            limits={"wall_time": 1},
        ),
        "The checker met its limit wall_time.",
    ),
    "an exit code of its own": (program("exit(77)"), "The checker ended with exit code 77"),
    "the exit code of another protocol": (
        program("exit(1)", "kattis"),
        "The checker ended with exit code 1",
    ),
}
for _name, _act, _said in [
    ("NaN", 'put("score.txt", "nan")', 'The checker gave no number from 0 up as score.txt: "nan".'),
    (
        "1e999",
        'put("score.txt", "1e999")',
        'The checker gave no number from 0 up as score.txt: "1e999".',
    ),
    ("nothing", 'put("score.txt", "")', 'The checker gave no number from 0 up as score.txt: "".'),
    ("too much", 'put("score.txt", "1.5")', "The checker gave 1.5 as score.txt, of at most 1."),
    ("two", 'put("score.txt", "1"); put("score_multiplier.txt", "1")', "The checker left both"),
    ("a FIFO", 'os.mkfifo(folder + "score.txt")', LEFT),
    ("a link", 'put("own", "1"); os.symlink("own", folder + "score.txt")', LEFT),
    ("a link to a secret", 'os.symlink("/etc/passwd", folder + "score.txt")', LEFT),
    (
        "1 GiB",
        'open(folder + "score.txt", "w").truncate(2**30)',
        "The checker ended with exit code 1",
    ),
    ("5 MiB", 'open(folder + "score.txt", "w").truncate(5 * 2**20)', LEFT),
    (
        "100,000 files",
        "for n in range(100_000): put(str(n), '')",
        "The checker ended with exit code 1",
    ),
]:
    BAD[f"as score {_name}"] = program(f"{KATTIS}{_act}\nexit(42)", "kattis"), _said


def test_what_is_wrong_with_a_checker_is_told_its_author(
    server: Server, request: pytest.FixtureRequest
) -> None:
    in_gvisor = request.node.callspec.params["server"] == "gvisor"
    ids = {
        name: server.submit(ECHO, tests=[T], checker=checker) for name, (checker, _) in BAD.items()
    }
    for name, id in ids.items():
        result = server.result(id)
        (test,) = result["tests"]
        assert (result["verdict"], result["score"]) == ("checker_error", 0), name
        assert test["verdict"] == "checker_error", name
        told = [BAD[name][1]]
        if in_gvisor and "100,000" in name:  # it takes longer for them than a checker may
            told.append("The checker met its limit cpu_time")
        assert test["message"].startswith(tuple(told)), (name, test["message"])
        assert len(test["message"].encode()) <= 4096
        assert test["run"]["stdout"] == "1\n", name


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ('put("judgemessage.txt", "m" * 5000)', "m" * 4093 + "…"),
        (
            'put("judgemessage.txt", "m" * 10_000_000)',
            "judgemessage.txt is no regular file of at most 65536 bytes.",
        ),
        (
            'open(folder + "judgemessage.txt", "wb").write(b"\\xff ok \\x00\\x1b[31m")',
            r"\xff ok \x00\x1b[31m",
        ),
        ('import shutil; shutil.rmtree(folder)', ""),
        ('import shutil; shutil.rmtree(folder); os.symlink("/", folder[:-1])', ""),
        ('os.chmod(folder, 0)', ""),
        ('print("to stdout"); print("to stderr", file=sys.stderr)', "to stderr"),
        ('os.fork() or __import__("time").sleep(1000)', ""),
    ],
)  # fmt: skip
def test_a_message_of_a_checker_is_shown_as_far_as_it_goes(
    server: Server, act: str, message: str
) -> None:
    checker = program(f"{KATTIS}{act}\nexit(42)", "kattis")
    (test,) = server.run(ECHO, tests=[T], checker=checker)["tests"]
    assert (test["verdict"], test["message"]) == ("accepted", message)


# Bad requests

GROUP = {"g": {"points": 1}}
CHECKER = program("1")
DEEP = {"g0": {"points": 1}} | {f"g{n}": {"points": 1, "group": f"g{n - 1}"} for n in range(1, 21)}


def with_unknown(*path: str | int) -> dict[str, Any]:
    """A submission that has everything, and a field too much at a place."""
    file = {"name": "a", "content": ""}
    limits = {"cpu_time": 1}
    checker = program("1", files=[dict(file)], limits=dict(limits))
    asked: Any = {
        "tests": [
            T | {"files": [dict(file)], "limits": dict(limits), "checker": {"float": {"abs": 0.1}}},
            T | {"checker": program("2", files=[dict(file)], limits=dict(limits)), "group": "g"},
        ],
        "groups": {"g": {"points": 1}},
        "checker": checker,
    }
    at = asked
    for part in path:
        at = at[part]
    at["colour"] = "red"
    return dict(asked)


PLACES: list[tuple[str | int, ...]] = [
    ("tests", 0),
    ("tests", 0, "files", 0),
    ("tests", 0, "limits"),
    ("tests", 0, "checker"),
    ("tests", 0, "checker", "float"),
    ("tests", 1, "checker", "program"),
    ("tests", 1, "checker", "program", "files", 0),
    ("tests", 1, "checker", "program", "limits"),
    ("groups", "g"),
    ("checker",),
    ("checker", "program"),
    ("checker", "program", "files", 0),
    ("checker", "program", "limits"),
]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_an_unknown_field_is_named_wherever_it_stands(
    server: Server, path: tuple[str | int, ...]
) -> None:
    refused(server, ".".join(map(str, (*path, "colour"))), **with_unknown(*path))


def refused(server: Server, field: str, kind: str = "invalid", **asked: Any) -> str:
    """What is said of the field, which is the only one."""
    answer = server.post({"language": "python", "source": ECHO} | asked)
    assert answer.status == 422, answer.body
    problem = answer.json()
    assert problem["type"] == kind
    (error,) = problem["errors"]
    assert error["field"] == field
    for ours in ("Json", "function", "[", "instance"):
        assert ours not in str(error), "pydantic speaks of our code"
    return str(error["message"])


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("tests", {"tests": [T] * 1001}),
        ("tests.1.name", {"tests": [T | {"name": "a"}, T | {"name": "a"}]}),
        ("tests.1.name", {"tests": [T | {"name": "2"}, T]}),
        ("tests", {"tests": {"a": T}}),
        ("tests", {"tests": [T | {"weight": 0}]}),
        ("tests", {"tests": [T | {"checker": program(str(n))} for n in range(17)]}),
        ("tests.0", {"tests": [None]}),
        ("tests.0.name", {"tests": [T | {"name": "a\n"}]}),
        ("tests.0.name", {"tests": [T | {"name": ""}]}),
        ("tests.0.weight", {"tests": [T | {"weight": -1}]}),
        ("tests.0.weight", {"tests": [T | {"weight": "1"}]}),
        ("tests.0.weight", {"tests": [T | {"weight": 1e10}]}),
        ("tests.0.expected_stdout", {"tests": [{"stdin": "1"}]}),
        ("tests.0.files.0.name", {"tests": [T | {"files": [{"name": "../a", "content": ""}]}]}),
        ("tests.0.files", {"tests": [T | {"files": [{"name": "main.py", "content": ""}]}]}),
        ("tests.0.group", {"tests": [T | {"group": "h"}], "groups": GROUP}),
        ("groups", {"tests": [T], "groups": GROUP}),
        ("groups", {"tests": [T | {"group": "g"}], "groups": {"g": {"points": 1, "needs": ["g"]}}}),
        ("groups", {"tests": [T | {"group": "g"}], "groups": {"g": {"points": 1, "needs": ["h"]}}}),
        ("groups", {"tests": [T | {"group": "g"}], "groups": {"g": {"points": 1, "group": "g"}}}),
        ("groups", {"tests": [T | {"group": "g20"}], "groups": DEEP}),
        ("interactive", {"tests": [T], "interactive": True}),
        ("checker", {"checker": "lines"}),
        ("checker", {"tests": [T], "checker": "linez"}),
        ("checker", {"tests": [T], "checker": [1]}),
        ("checker", {"tests": [T], "checker": {}}),
        ("checker", {"tests": [T], "checker": {"float": 1, **CHECKER}}),
        ("checker.name", {"tests": [T], "checker": {"name": "lines", "float": 1}}),
        ("checker.float", {"tests": [T], "checker": {"float": -1}}),
        ("checker.float", {"tests": [T], "checker": {"float": "1"}}),
        ("checker.float.abs", {"tests": [T], "checker": {"float": {"abs": -1}}}),
        ("checker.program.protocol", {"tests": [T], "checker": program("1", "icpc")}),
        ("groups", {"groups": GROUP}),
        ("stop_on_failure", {"stop_on_failure": True}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    server: Server, field: str, asked: dict[str, Any]
) -> None:
    assert refused(server, field, **asked)


@pytest.mark.parametrize(
    ("kind", "field", "asked"),
    [
        ("unknown-language", "language", {"language": "klingon"}),
        ("unknown-version", "version", {"version": "1.2"}),
        ("limit-above-ceiling", "limits.cpu_time", {"limits": {"cpu_time": 9999}}),
    ],
)
def test_what_a_checker_cannot_have_is_named_with_its_place(
    server: Server, kind: str, field: str, asked: dict[str, Any]
) -> None:
    checker = program("1")
    checker["program"] |= asked
    refused(server, f"checker.program.{field}", kind, tests=[T], checker=checker)
    tests = [T, T | {"checker": checker}]
    refused(server, f"tests.1.checker.program.{field}", kind, tests=tests)


def test_numbers_that_are_none_are_refused(server: Server) -> None:
    for value, status in (("NaN", 400), ("Infinity", 400), ("1e999", 422)):
        body = b'{"language":"python","source":"1","tests":[{"expected_stdout":"","weight":%b}]}'
        assert server.post(body % value.encode()).status == status


def test_tests_of_100_mb_are_refused_with_the_limit(server: Server) -> None:
    before = server.resident
    answer = server.post(
        {"language": "python", "source": "", "tests": [T | {"stdin": "x" * 10**8}]}
    )
    assert answer.status == 413
    assert answer.json()["detail"] == "a body may have 16777216 bytes"
    assert server.resident < before + 32 * 2**20


def test_a_thousand_short_tests_are_taken(server: Server) -> None:
    """Each with a name, a group, limits, and as much as is still read as short."""
    test = {"stdin": "1" * 250, "expected_stdout": "1" * 250, "group": "g" * 90, "weight": 2.5}
    limits = {"cpu_time": 1.0, "memory": 2**26}
    tests = [test | {"name": f"{n}".rjust(90, "x"), "limits": limits} for n in range(1000)]
    id = server.submit("int main(", language="cpp", tests=tests, groups={"g" * 90: {"points": 3}})
    result = server.result(id)
    assert (result["verdict"], result["score"], result["points_max"]) == ("compile_error", 0, 3)
    assert len(result["tests"]) == 1000


# A solution is alone with its input

LOOK = r"""
import os, socket, sys
me = sys.argv[1]
found = []
def look(path, depth=0):
    try:
        if os.path.islink(path): return
        if os.path.isdir(path):
            for name in os.listdir(path):
                if "SEC" + "RET" in name: found.append(path + "/" + name)
                look(f"{path}/{name}", depth + 1)
        elif os.path.isfile(path) or path.startswith("/proc"):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            data = os.read(fd, 2**20)
            os.close(fd)
            if ("SEC" + "RET").encode() in data: found.append(path)
    except OSError: pass
for place in ("/box", "/tmp", "/var", "/dev", "/run", "/home", "/root", "/etc", "/mnt", "/srv", "/opt"):
    look(place)
for process in os.listdir("/proc"):
    if process.isdecimal():
        for name in ("cmdline", "environ", "maps", "mountinfo", "root", "cwd", "fd"):
            place = f"/proc/{process}/{name}"
            look(place)
            try: links = [os.readlink(f"{place}/{name}") for name in os.listdir(place)]
            except OSError: links = []
            found += [place for link in links if "SEC" + "RET" in link]
look("/proc/sysvipc")
for door in ("\0SEC" + "RET", "/tmp/SEC" + "RET"):
    try: socket.socket(socket.AF_UNIX).connect(door); found.append(door)
    except OSError: pass
print(me, found, flush=True)
mark = "SEC" + "RET"
for place in ("/box", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/home"):
    try: open(f"{place}/{mark}", "w").write(mark)
    except OSError: pass
if os.fork() == 0:
    os.setsid()
    door = socket.socket(socket.AF_UNIX); door.bind("\0" + mark); door.listen()
    import time; time.sleep(1000)
"""
SNOOP = """
import os, sys
def all(place):
    for folder, _, names in os.walk(place):
        for name in names:
            yield f"{folder}/{name}"
open("/tmp/SECRET-of-checker", "w").write("SECRET")
seen = [each for each in all("/box") if "solution-only" in each or "the" + "irs" in open(each).read()]
left = [each for each in all("/tmp") if "SECRET-of-checker" not in each]
print(seen, left, os.path.exists("/box/SECRET"))
given, expected, output = (open(path).read() for path in sys.argv[1:4])
assert expected == "SECRET expected"
"""


def test_a_solution_sees_nothing_of_others_and_a_checker_nothing_of_it(server: Server) -> None:
    """Every test looks everywhere, and leaves marks wherever it can."""
    tests = [
        {
            "name": f"SECRET {n}",
            "args": [str(n)],
            "stdin": "given",
            "expected_stdout": "SECRET expected",
            "files": [{"name": f"other{n}.txt", "content": "SECRET file" if n == 1 else "theirs"}],
        }
        for n in range(3)
    ]
    tests[1]["args"] = ["1"]
    files = [{"name": "solution-only.txt", "content": "theirs"}]
    checker = program(SNOOP, files=[{"name": "SECRET.py", "content": "SECRET"}])
    same = {"source": LOOK, "files": files, "tests": tests, "checker": checker}
    for id in [server.submit(**same) for _ in range(2)]:  # side by side
        result = server.result(id)
        assert [test["run"]["stdout"] for test in result["tests"]] == [
            "0 []\n",
            "1 ['/box/other1.txt']\n",
            "2 []\n",
        ]
        assert [test["message"] for test in result["tests"]] == ["[] [] False"] * 3
        assert verdicts(result) == ["accepted"] * 3


# The time for all

WAIT = "import time\nif input() == 'wait': time.sleep(100)\nprint(1)"


@pytest.mark.parametrize("who", ["solution", "checker"])
async def test_what_the_time_for_all_does_not_reach_is_skipped(hasty: Server, who: str) -> None:
    """All tests together have three seconds, and the second one takes more."""
    waits = [T, T | {"stdin": "wait", "weight": 2}, T]
    checker = program(
        "import sys, time\nif sys.argv[1:] and open(sys.argv[1]).read() == 'wait': time.sleep(15)"
    )
    if who == "solution":
        id = hasty.submit(WAIT, tests=waits, limits={"wall_time": 60})
    else:
        id = hasty.submit("print(1)", tests=waits, checker=checker)
    result = hasty.result(id)
    assert result["verdict"] == "time_limit"
    assert verdicts(result) == ["accepted", "skipped", "skipped"]
    assert (result["points"], result["points_max"]) == (1, 4)
    assert result["tests"][2]["run"] is None


async def test_a_failure_leaves_out_what_follows_or_needs_it(server: Server) -> None:
    wrong = T | {"stdin": "2"}
    stop = server.submit(ECHO, tests=[T, wrong, T, T], stop_on_failure=True)
    groups = {
        "samples": {"points": 10, "rule": "all"},
        "easy": {"points": 30, "needs": ["samples"]},
        "other": {"points": 60, "rule": "min"},
    }
    tests = [
        T | {"group": "samples"},
        wrong | {"group": "samples"},
        T | {"group": "easy"},
        T | {"group": "other"},
        T | {"group": "other", "checker": program(KATTIS + 'put("score.txt", "0.5")\nexit(42)', "kattis")},
    ]  # fmt: skip
    needs = server.submit(ECHO, tests=tests, groups=groups)
    result = server.result(stop)
    assert verdicts(result) == ["accepted", "wrong_answer", "skipped", "skipped"]
    assert (result["verdict"], result["score"]) == ("wrong_answer", 0.25)
    # Tests run at once: those that are left out may have begun.
    assert [test["run"] is None for test in result["tests"][:2]] == [False, False]
    result = server.result(needs)
    assert verdicts(result) == ["accepted", "wrong_answer", "skipped", "accepted", "accepted"]
    assert (result["verdict"], result["points"], result["points_max"]) == ("wrong_answer", 30, 100)
    assert result["groups"] == {
        "samples": {"points": 0, "points_max": 10},
        "easy": {"points": 0, "points_max": 30},
        "other": {"points": 30, "points_max": 60},
    }
    told = [event for event in await events(server, needs) if event["name"] == "test"]
    assert sorted(event["test"] for event in told) == [0, 1, 2, 3, 4]


def test_a_checker_is_given_the_stdin_that_the_solution_had(server: Server) -> None:
    """Also that of the submission, for a test without one. Empty stdin is one."""
    checker = program("import sys; print(open(sys.argv[1]).read())")
    result = server.run(
        "import sys; print(sys.argv[1:])", stdin="for all", args=["a"], checker=checker,
        tests=[{}, {"stdin": "own", "args": ["b"]}, {"stdin": ""}],
    )  # fmt: skip
    assert [test["message"] for test in result["tests"]] == ["for all", "own", ""]
    written = ["['a']\n", "['a', 'b']\n", "['a']\n"]
    assert [test["run"]["stdout"] for test in result["tests"]] == written


# docs/judging.md


def test_the_examples_of_the_page_are_taken(server: Server) -> None:
    whole, part, grouped, *_ = (json.loads(block) for block in PAGE.blocks("json"))
    result = server.result(server.post(whole).json()["id"])
    assert (result["verdict"], result["points"], result["points_max"]) == ("accepted", 4, 4)
    shown = result["tests"][0]
    assert part.keys() == shown.keys()
    assert shown | {"run": None} == part | {"run": None}
    assert part["run"].keys() <= shown["run"].keys()

    tests = [test | {"expected_stdout": "1"} for test in grouped["tests"]]
    result = server.run("print(1)", **grouped | {"tests": tests})
    assert (result["verdict"], result["points"], result["points_max"]) == ("accepted", 100, 100)

    (even,) = PAGE.blocks("python")
    tests = [{"args": [output]} for output in ("4", "5", "x")]
    result = server.run("import sys; print(sys.argv[1])", tests=tests, checker=program(even))
    assert verdicts(result) == ["accepted", "wrong_answer", "wrong_answer"]
    said = [test["message"] for test in result["tests"]]
    assert said == ["Even.", "Odd.", "That is no whole number."]
