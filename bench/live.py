"""How soon a line is at the client, and what a flood costs beside its gathered form. Perl gathers.

Each program prints the time, a second apart; all languages run at once. Each flood runs in turn as it is and
gathered.
"""

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import trio
from clocks import CLOCKS, late_s
from serving import serving

from bench.clients import ask, post, socket, until_finished
from bench.measure import daemon

LINES = 30
SEEN_MS = 50.0
ROUNDS = 5
RATIO = 1.3

_C = """
    #include <stdio.h>
    static char buffer[4097];
    int main(int argc, char **argv) {
        if (argc > 1) setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
        for (int i = 0; i < 2000000; i++) %s;
    }"""
_RUBY = (
    "$stdout.singleton_class.remove_method(:write) if ARGV.shift\n2_000_000.times { |i| puts i }"
)
FLOODS: dict[str, tuple[str, dict[str, Any]]] = {
    "c": (_C % 'printf("%d\\n", i)', {"args": ["gathered"]}),
    "cpp": ("#include <iostream>\n" + _C % "std::cout << i << '\\n'", {"args": ["gathered"]}),
    "lua": ('for i = 1, 2000000 do io.write(i, "\\n") end', {"env": {"LD_PRELOAD": ""}}),
    "python": ("for i in range(2_000_000): print(i)", {"env": {"PYTHONUSERBASE": ""}}),
    "ruby": (_RUBY, {"args": ["gathered"]}),
}
"""The program, and what a submission adds for its gathered form."""


async def live() -> None:
    print(f"\nfrom a line's writing to the client, median of {LINES} (at most {SEEN_MS:g} ms)")
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "data", execute__slots=str(len(CLOCKS))) as server,
    ):
        for language, late in (await late_s(server, LINES)).items():
            ms = [1e3 * each for each in late]
            _tell(
                f"{language:12}{median(ms):6.1f} ms, latest {max(ms):6.1f}", median(ms) <= SEEN_MS
            )
    with tempfile.TemporaryDirectory() as folder, daemon(f"{folder}/data") as (port, _):
        print(f"\na flood of two million lines, as it is and gathered, median of {ROUNDS} in turn")
        for language in FLOODS:
            await _flood(port, language)


async def _flood(port: int, language: str) -> None:
    source, gathered = FLOODS[language]
    body = {"language": language, "source": source, "limits": {"output": 2**24}}
    times: dict[str, list[float]] = {"live": [], "gathered": []}
    for _ in range(ROUNDS):
        for form, more in (("live", {}), ("gathered", gathered)):
            id = (await post(port, body | more))["id"]
            async with socket(port) as connection:
                await until_finished(connection, id)
            run = (await ask(port, "GET", f"/api/v1/submissions/{id}?fields=run"))["run"]
            assert run["exit_code"] == 0, run
            times[form].append(run["wall_time"])
            await trio.sleep(0.1)
    ratio = median(times["live"]) / median(times["gathered"])
    seconds = "  ".join(f"{form} {median(of):5.2f} s" for form, of in times.items())
    _tell(f"{language:12}{seconds}  ratio {ratio:.2f} (at most {RATIO:g})", ratio <= RATIO)


def _tell(line: str, good: bool) -> None:
    print(line if good else f"{line}  TOO SLOW; the load is {os.getloadavg()[0]:.1f}")
