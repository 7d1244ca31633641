"""Programs whose end is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from occd.model import MAX_ATTEMPTS


@dataclass(frozen=True)
class Program:
    """`stdout` is what a run that ends by itself has printed, `share` how often it is chosen."""

    name: str
    verdict: str
    source: str
    share: int = 1
    language: str = "python"
    stdout: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    cancel: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the submission."""
    tests: tuple[str, ...] = ()
    """The verdicts of its tests."""
    artifacts: tuple[str, ...] = ()
    """The names of the files that it leaves."""

    @property
    def body(self) -> dict[str, Any]:
        body = {"language": self.language, "source": self.source, "limits": dict(self.limits)}
        return {**body, **self.more}

    def fault(self, seen: dict[str, Any]) -> str | None:
        """The fault of a result, if there is one. The result of an event comes without its output."""
        told = f"{self.name} {seen['id']}: {seen['verdict']}, attempts {seen['attempts']}"
        if seen["verdict"] == "internal_error":
            enough = seen["attempts"] >= MAX_ATTEMPTS  # more, where some did not count
            return None if enough else told
        if seen["verdict"] != self.verdict:
            run = seen["run"] or seen["compile"] or {}
            return told + f" {run | {'stdout': str(run.get('stdout'))[:200]}}"
        if tuple(each["verdict"] for each in seen["tests"]) != self.tests:
            return told + f": tests {seen['tests']}"
        if tuple(each["name"] for each in seen["artifacts"]) != self.artifacts:
            return told + f": artifacts {seen['artifacts']}"
        if self.stdout is not None and seen["run"]["stdout"] not in (None, self.stdout):
            return told + ": another output"
        return None


LINES = Program(
    "lines",
    "ok",
    "for n in range(200): print(n, flush=n % 20 == 0)",
    share=5,
    stdout="".join(f"{n}\n" for n in range(200)),
)
SLEEP = Program(
    "sleep", "ok", "import time; time.sleep(0.3); print('awake')", share=3, stdout="awake\n"
)
C = Program(
    "c",
    "ok",
    '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }',
    language="c",
    share=2,
    stdout="hello\n",
)
BAD_C = Program("bad c", "compile_error", "int main(void) { return", language="c")
FAIL = Program("fail", "runtime_error", "import sys; print('no'); sys.exit(3)", stdout="no\n")
SPIN = Program("spin", "time_limit", "while True: pass", limits={"cpu_time": 0.3})
CANCEL = Program(
    "cancel",
    "cancelled",
    "import time; print('on', flush=True); time.sleep(100)",
    limits={"wall_time": 200},
    cancel=True,
)
SIGNAL = Program("signal", "runtime_error", "import os; os.kill(os.getpid(), 11)")
ABORT = Program("abort", "runtime_error", "import os; os.abort()")
BIG = Program("big", "memory_limit", "x = bytearray(10**9); x[::4096] = b'x' * len(x[::4096])")
FLOOD = Program(
    "flood",
    "output_limit",
    "import sys\nwhile True: sys.stdout.write('x' * 65536)",
    limits={"output": 200_000},
)
JUDGED = Program(
    "judged",
    "wrong_answer",
    "import time; time.sleep(0.05); print(int(input()) + 1)",
    share=2,
    more={
        "tests": [{"stdin": f"{n}\n", "expected_stdout": f"{n + (n == 3)}\n"} for n in range(1, 6)],
    },
    tests=("wrong_answer", "wrong_answer", "accepted", "wrong_answer", "wrong_answer"),
)
CHECKED = Program(
    "checked",
    "accepted",
    "print(int(input()) * 2)",
    more={
        "tests": [{"stdin": f"{n}\n"} for n in range(4)],
        "checker": {
            "program": {
                "language": "python",
                "source": "import sys; sys.exit(int(open(sys.argv[3]).read()) % 2)",
                "protocol": "plain",
            }
        },
    },
    tests=("accepted",) * 4,
)
LEAVES = Program(
    "leaves",
    "ok",
    "for n in range(3): open(f'{n}.txt', 'w').write('x' * 1000 * n)",
    more={"artifacts": ["*.txt"]},
    artifacts=("0.txt", "1.txt", "2.txt"),
)
