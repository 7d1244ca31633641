"""`make bench`: what a hello costs, what a test costs, how soon output is seen, and a classroom.
`PARTS="judging classroom"` measures only those."""

import argparse

import trio

from bench.classroom import classroom
from bench.hello import hello
from bench.judging import judging
from bench.live import live
from occd.sandbox.kernel import enter_private_mounts

PARTS = {"hello": hello, "judging": judging, "live": live, "classroom": classroom}


async def main(parts: list[str]) -> None:
    for part in parts:
        await PARTS[part]()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[*PARTS])
enter_private_mounts()
trio.run(main, parser.parse_args().parts)
