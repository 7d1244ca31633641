"""The cost of a test beyond the program: 100 tests of one C++ program in one slot, and in turn as many bare
runs of the same program (fork, exec, pipes, wait)."""

import os
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import trio

from bench.clients import post, socket, until_finished
from bench.measure import daemon, percentile
from occd.sandbox.spawn import Process

SOURCE = "#include <iostream>\nint main() { long a, b; std::cin >> a >> b; std::cout << a + b << '\\n'; }\n"
TESTS = 100
ROUNDS = 5
BOUND_MS = 5.0


async def bare(program: str, number: int) -> None:
    ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    (stdin, ours), (out, stdout), (err, stderr) = ends
    process = Process([program], {}, {0: stdin, 1: stdout, 2: stderr})
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    async with trio.lowlevel.FdStream(ours) as stream:
        await stream.send_all(b"%d %d\n" % (number, number))
    async with trio.lowlevel.FdStream(out) as one, trio.lowlevel.FdStream(err) as other:
        output = b"".join([part async for part in one])
        assert b"".join([part async for part in other]) == b""
    assert await process.wait() == 0
    assert output == b"%d\n" % (2 * number), output
    process.close()


async def tests(port: int) -> float:
    """Seconds from the end of the compiler to the end of the submission."""
    numbers = range(TESTS)
    tests = [{"stdin": f"{at} {at}\n", "expected_stdout": f"{2 * at}\n"} for at in numbers]
    id = (await post(port, {"language": "cpp", "source": SOURCE, "tests": tests}))["id"]
    async with socket(port) as connection:
        frames = await until_finished(connection, id)
    assert frames[-1]["event"]["result"]["verdict"] == "accepted", frames[-1]
    compiled = [_time(each) for each in frames if each["event"].get("stage") == "compile"]
    assert len(compiled) == 2, "it was compiled more than once"
    return _time(frames[-1]) - compiled[-1]


def _time(frame: dict[str, Any]) -> float:
    return datetime.fromisoformat(frame["time"]).timestamp()


async def beyond_bare(folder: str, rounds: int) -> list[tuple[float, float]]:
    """Of each round the ms of a bare run, and of a test."""
    source, program = Path(folder) / "sum.cpp", Path(folder) / "sum"
    source.write_text(SOURCE)
    await trio.run_process(["g++", "-O2", source, "-o", program])
    settings = {"OCCD_EXECUTE__SLOTS": "1", "OCCD_LANGUAGES": '["cpp"]'}
    found = []
    with daemon(f"{folder}/judging", environment=settings) as (port, _):
        await tests(port)
        for _ in range(rounds):
            began = time.perf_counter()
            for number in range(TESTS):
                await bare(str(program), number)
            bare_ms = (time.perf_counter() - began) * 1e3 / TESTS
            found.append((bare_ms, await tests(port) * 1e3 / TESTS))
    return found


async def judging() -> None:
    print(
        f"\n{TESTS} tests of a C++ program in one slot, {ROUNDS} times, and as many bare runs in turn"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = await beyond_bare(folder, ROUNDS)
    for bare_ms, test_ms in found:
        print(f"bare {bare_ms:5.2f}  test {test_ms:5.2f}  beyond {test_ms - bare_ms:5.2f} ms")
    beyond = [test_ms - bare_ms for bare_ms, test_ms in found]
    p50 = percentile(beyond, 0.5)
    print(f"ms a test beyond bare: p50 {p50:.2f}, least {min(beyond):.2f} (at most {BOUND_MS:g})")
    if p50 > BOUND_MS:
        print(f"TOO SLOW; the load of the machine is {os.getloadavg()[0]:.1f}")
