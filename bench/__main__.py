"""`make bench`: what a hello costs, what a test costs, how soon output is seen, and a classroom.
`PARTS="judging classroom"` measures only those. Six parts must be named: `page`, which takes a quarter of
an hour, `accounts`, what accounts and quotas add to a hello, `metrics`, what metrics add, `docker`, a hello
in containers, `trace`, what a trace adds, and `sooner`, a table of what is to be sooner than in a shell."""

import argparse

import trio

from bench.accounts import accounts
from bench.classroom import classroom
from bench.docker import docker
from bench.hello import hello
from bench.judging import judging
from bench.live import live
from bench.metrics import metrics
from bench.page import page
from bench.sooner import sooner
from bench.trace import trace
from occd.sandbox.kernel import enter_private_mounts

PARTS = {
    "hello": hello,
    "judging": judging,
    "live": live,
    "classroom": classroom,
    "accounts": accounts,
    "metrics": metrics,
    "page": page,
    "docker": docker,
    "trace": trace,
    "sooner": sooner,
}
NAMED = {"accounts", "docker", "metrics", "page", "sooner", "trace"}
"""The parts that are measured only when they are named."""


async def main(parts: list[str]) -> None:
    for part in parts:
        await PARTS[part]()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "parts", nargs="*", choices=[*PARTS, []], default=[name for name in PARTS if name not in NAMED]
)
enter_private_mounts()
trio.run(main, parser.parse_args().parts)
