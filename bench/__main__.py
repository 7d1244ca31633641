"""`make bench`: what a hello costs, what a test costs, how soon output is seen, and a classroom.
`PARTS="judging classroom"` measures only those. `page` takes a quarter of an hour, so it must be named."""

import argparse

import trio

from bench.classroom import classroom
from bench.hello import hello
from bench.judging import judging
from bench.live import live
from bench.page import page
from occd.sandbox.kernel import enter_private_mounts

PARTS = {"hello": hello, "judging": judging, "live": live, "classroom": classroom, "page": page}


async def main(parts: list[str]) -> None:
    for part in parts:
        await PARTS[part]()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "parts", nargs="*", choices=[*PARTS, []], default=[name for name in PARTS if name != "page"]
)
enter_private_mounts()
trio.run(main, parser.parse_args().parts)
