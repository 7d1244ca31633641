"""Programs that print the time, a second apart, in each language whose output is live, and how late a line is
at a client."""

import time

import trio
from serving import Server, connected

CLOCKS = {
    "bash": "for ((i = 0; i < LINES; i++)); do echo $EPOCHREALTIME; sleep 1; done",
    "c": """
        #include <stdio.h>
        #include <time.h>
        #include <unistd.h>
        int main(void) {
            for (int i = 0; i < LINES; i++, sleep(1)) {
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
            for (int i = 0; i < LINES; i++, std::this_thread::sleep_for(std::chrono::seconds(1)))
                std::cout << std::chrono::duration<double>(
                    std::chrono::system_clock::now().time_since_epoch()).count() << '\\n';
        }""",
    "go": """
        package main
        import ("fmt"; "time")
        func main() {
            for i := 0; i < LINES; i++ {
                fmt.Printf("%.6f\\n", float64(time.Now().UnixMicro()) / 1e6)
                time.Sleep(time.Second)
            }
        }""",
    "java": """
        class Main {
            public static void main(String[] args) throws Exception {
                for (int i = 0; i < LINES; i++, Thread.sleep(1000))
                    System.out.println(System.currentTimeMillis() / 1e3);
            }
        }""",
    "javascript": """
        let n = 0;
        function tell() {
            console.log(Date.now() / 1e3);
            if (++n === LINES) clearInterval(each);
        }
        const each = setInterval(tell, 1000);""",
    "lua": """
        for i = 1, LINES do
            io.write(io.popen("date +%s.%N"):read("l"), "\\n")
            os.execute("sleep 1")
        end""",
    "php": '<?php for ($i = 0; $i < LINES; $i++) { printf("%.6f\\n", microtime(true)); sleep(1); }',
    "python": "import time\nfor _ in range(LINES):\n    print(time.time())\n    time.sleep(1)",
    "ruby": "LINES.times { puts Time.now.to_f; sleep 1 }",
    "rust": """
        use std::time::*;
        fn main() {
            for _ in 0..LINES {
                println!("{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64());
                std::thread::sleep(Duration::from_secs(1));
            }
        }""",
}


async def late_s(server: Server, lines: int) -> dict[str, list[float]]:
    """For each language, how many seconds after its writing each line was at a client. All languages run at
    once, so the server needs as many slots."""
    late: dict[str, list[float]] = {}
    async with trio.open_nursery() as nursery:
        for language in CLOCKS:
            late[language] = []
            nursery.start_soon(_follow, server, language, lines, late[language])
    return late


async def _follow(server: Server, language: str, lines: int, late: list[float]) -> None:
    async with connected(server) as client:
        source = CLOCKS[language].replace("LINES", str(lines))
        id = await client.submit(source, language=language, limits={"wall_time": 120})
        while (event := (await client.next_event(id))["event"])["name"] != "finished":
            if event["name"] == "output":
                assert event["stream"] == "stdout", (language, event)
                now = time.time()
                late += [now - float(line) for line in event["data"].split()]
    assert len(late) == lines, (language, event)
