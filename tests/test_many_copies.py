"""10,000 programs that get copies of interpreters end as the same programs with interpreters of their own.
Both use as much memory, and as much processor time but for an interpreter's start, which is taken from the
first kind of program of each language."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pytest
import trio
from sandboxed import Lab, Ran

from occd import metrics
from occd.config import Config, SandboxConfig
from occd.model import Limits, Outcome
from occd.sandbox import open_sandbox

PROGRAMS = 10_000
SERVED = 0.98
"""The share of them that gets copies: not the first ones, and none while a killed template is replaced."""
LIMITS = replace(Limits(), wall_time=60.0, memory=128 * 2**20, processes=16, output=2**20)
SLACK_S = 0.005
SLACK_BYTES = 2**20


@dataclass(frozen=True)
class Kind:
    language: str
    source: str
    measured: bool = True
    """Whether memory and processor time are compared. A limit ends a program at any moment, and what ends at
    once saves its interpreter's end, too."""


KINDS = {
    "hello": Kind("python", "print('Hello', @)"),
    "stdin": Kind("python", "import sys\nfor line in sys.stdin: print(line.strip()[::-1], @)"),
    "exit code": Kind("python", "import sys; print(@, file=sys.stderr); sys.exit(@ % 256)"),
    "traceback": Kind("python", "def f(n): return 1 // (n - @)\nprint(f(@ + 1))\nf(@)"),
    "no syntax": Kind("python", "print(@)\nif @ print()"),
    "signal": Kind("python", "import os, signal; print(@, flush=True); os.kill(os.getpid(), signal.SIGTERM)"),
    "abort": Kind("python", "import os; print(@, flush=True); os.abort()", measured=False),
    "files": Kind(
        "python",
        "import os\nfor n in range(9): open(f'/tmp/{n}', 'w').write('x' * @)\n"
        "print(sorted(os.listdir('/tmp')), os.listdir('.'), os.path.getsize('/tmp/8'))",
    ),
    "processes": Kind(
        "python",
        "import subprocess, threading\n"
        "ended = [subprocess.run(['/bin/sh', '-c', 'echo $((@ * 2)); exit 3'], capture_output=True)]\n"
        "one = threading.Thread(target=lambda: ended.append(@)); one.start(); one.join(); print(ended)",
    ),
    "memory": Kind("python", "kept = bytearray(20_000_000 + @); print(len(kept))"),
    "work": Kind("python", "print(sum(n * n for n in range(200_000 + @)))"),
    "much output": Kind("python", "for n in range(@ % 9000): print(n, 'x' * 60)"),
    "too much output": Kind("python", "while True: print(@, 'x' * 5000)", measured=False),
    "too much memory": Kind("python", "print(@, flush=True); kept = b'x' * 400_000_000", measured=False),
    "left over": Kind(
        "python",
        "import os, time\nprint(@, flush=True)\nif os.fork() == 0: time.sleep(100)",
        measured=False,
    ),
    "PHP": Kind("php", "<?php echo @ * 2, \"\\n\"; fwrite(STDERR, 'told'); exit(@ % 256);"),
    "PHP's error": Kind("php", "<?php function f($n) { throw new Exception(\"$n\"); }\necho @; f(@);"),
    "JavaScript": Kind("javascript", "console.log(@, require('fs').readFileSync(0, 'utf8').length);"),
}  # fmt: skip
SHARES = [1 if each.language == "javascript" or not each.measured else 9 for each in KINDS.values()]


def told(outcome: Outcome) -> tuple[object, ...]:
    """What a user is told of an end, but for times and memory."""
    return (outcome.exit_code, outcome.signal, outcome.limit)


async def end(lab: Lab, kind: Kind, number: int) -> Ran:
    source = kind.source.replace("@", str(number))
    return (await lab.program(kind.language, source, stdin=f"line {number}\nlast", limits=LIMITS))[
        -1
    ]


@asynccontextmanager
async def daemons(cache: Path, templates: int) -> AsyncIterator[Lab]:
    async with open_sandbox(Config(sandbox=SandboxConfig(templates=templates)), cache) as sandbox:
        yield Lab(sandbox)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_10000_programs_end_as_with_interpreters_of_their_own(language_cache: Path) -> None:
    chooser = random.Random(10)
    wanted = iter(enumerate(chooser.choices(list(KINDS), SHARES, k=PROGRAMS)))
    faults: list[str] = []
    used: dict[str, list[tuple[Outcome, Outcome]]] = defaultdict(list)
    before = metrics.COPIES._value.get()
    async with (
        daemons(language_cache, 0) as plain,
        daemons(language_cache, SandboxConfig().templates) as copying,
    ):

        async def client() -> None:
            for number, name in wanted:
                own, copy = [await end(lab, KINDS[name], number) for lab in (plain, copying)]
                used[name].append((own.outcome, copy.outcome))
                seen = [(told(each.outcome), each.stdout, each.stderr) for each in (own, copy)]
                if seen[0] != seen[1]:
                    faults.append(f"{name} {number}: {seen}")

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(client)
    copies = metrics.COPIES._value.get() - before
    print(f"\n{copies:.0f} of {PROGRAMS} were copies; own and copy, medians:")

    def both(name: str, get: Callable[[Outcome], float]) -> tuple[float, float]:
        return median(get(own) for own, _ in used[name]), median(
            get(copy) for _, copy in used[name]
        )

    start_up: dict[str, float] = {}
    for name, kind in KINDS.items():
        cpu = both(name, lambda end: end.cpu_time)
        memory = both(name, lambda end: end.memory)
        print(
            f"{name:16} {len(used[name]):5} processor {cpu[0] * 1e3:6.1f} {cpu[1] * 1e3:6.1f} ms, "
            f"memory {memory[0] / 2**20:6.1f} {memory[1] / 2**20:6.1f} MiB"
        )
        if kind.measured:
            saved = start_up.setdefault(kind.language, cpu[0] - cpu[1])
            if cpu[1] > cpu[0] or abs(cpu[0] - cpu[1] - saved) > SLACK_S + cpu[0] * 0.02:
                faults.append(f"{name}: processor time {cpu}, an interpreter's start {saved}")
            if abs(memory[1] - memory[0]) > SLACK_BYTES + memory[0] * 0.05:
                faults.append(f"{name}: memory {memory}")
    assert not faults, "\n".join(faults[:20])
    assert copies >= PROGRAMS * SERVED
