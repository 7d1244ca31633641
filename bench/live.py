"""How soon a line is at the client, and what a flood costs beside its gathered form. Perl gathers.

Each program prints the time, thirty times. Each flood runs in turn as it is and gathered.
"""

import json
import os
import tempfile
import time
from statistics import median
from typing import Any

import trio

from bench.clients import ask, post, socket, until_finished
from bench.measure import daemon

LINES = 30
SEEN_MS = 50.0
ROUNDS = 5
RATIO = 1.3

TELLS_THE_TIME = {
    "c": """
        #include <stdio.h>
        #include <time.h>
        #include <unistd.h>
        int main(void) {
            for (int i = 0; i < 30; i++, usleep(200000)) {
                struct timespec t;
                clock_gettime(CLOCK_REALTIME, &t);
                printf("%ld.%09ld\\n", t.tv_sec, t.tv_nsec);
            }
        }""",
    "cpp": """
        #include <chrono>
        #include <iostream>
        #include <thread>
        int main() {
            std::cout.precision(20);
            for (int i = 0; i < 30; i++, std::this_thread::sleep_for(std::chrono::milliseconds(200)))
                std::cout << std::chrono::duration<double>(
                    std::chrono::system_clock::now().time_since_epoch()).count() << '\\n';
        }""",
    "go": """
        package main
        import ("fmt"; "time")
        func main() {
            for i := 0; i < 30; i++ {
                fmt.Printf("%.6f\\n", float64(time.Now().UnixMicro()) / 1e6)
                time.Sleep(200 * time.Millisecond)
            }
        }""",
    "java": """
        class Main {
            public static void main(String[] args) throws Exception {
                for (int i = 0; i < 30; i++, Thread.sleep(200))
                    System.out.println(System.currentTimeMillis() / 1e3);
            }
        }""",
    "javascript": "let n = 0; setInterval(() => { console.log(Date.now() / 1e3); "
    "if (++n === 30) process.exit() }, 200)",
    "lua": """for i = 1, 30 do
        io.write(io.popen("date +%s.%N"):read("l"), "\\n") os.execute("sleep 0.2") end""",
    "php": '<?php for ($i = 0; $i < 30; $i++) { printf("%.6f\\n", microtime(true)); usleep(200000); }',
    "python": "import time\nfor _ in range(30):\n    print(time.time())\n    time.sleep(0.2)",
    "ruby": "30.times { puts Time.now.to_f; sleep 0.2 }",
    "rust": """
        use std::time::*;
        fn main() {
            for _ in 0..30 {
                println!("{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64());
                std::thread::sleep(Duration::from_millis(200));
            }
        }""",
}

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
    with tempfile.TemporaryDirectory() as folder, daemon(f"{folder}/data") as (port, _):
        print(f"\nfrom a line's writing to the client, median of {LINES} (at most {SEEN_MS:g} ms)")
        for language in TELLS_THE_TIME:
            await _seen(port, language)
        print(f"\na flood of two million lines, as it is and gathered, median of {ROUNDS} in turn")
        for language in FLOODS:
            await _flood(port, language)


async def _seen(port: int, language: str) -> None:
    late = []
    body = {"language": language, "source": TELLS_THE_TIME[language], "limits": {"wall_time": 60}}
    id = (await post(port, body))["id"]
    async with socket(port) as connection:
        await connection.send_message(json.dumps({"type": "subscribe", "id": id}))
        while (event := json.loads(await connection.get_message()).get("event", {})).get(
            "name"
        ) != "finished":
            if event.get("name") == "output":
                late += [1e3 * (time.time() - float(line)) for line in event["data"].split()]
    assert len(late) == LINES, (language, event)
    _tell(f"{language:12}{median(late):6.1f} ms, latest {max(late):6.1f}", median(late) <= SEEN_MS)


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
