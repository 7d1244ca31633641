"""The page's own code looks for problems in the messages of compilers and runtimes."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editor_packages import WEB, install_packages


def build_parser(folder: Path) -> Path:
    """The page's code as a program for `parse`."""
    install_packages()
    parser = folder / "parse.mjs"
    build = [
        "node_modules/.bin/esbuild",
        "test/parse.ts",
        "--bundle",
        "--platform=node",
        "--format=esm",
    ]
    subprocess.run([*build, f"--outfile={parser}", "--log-level=error"], cwd=WEB, check=True)
    return parser


def parse(parser: Path, asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each, `problems` and the time that it took, `cpu_ms`."""
    given = json.dumps(asked).encode()
    done = subprocess.run(
        ["node", parser], input=given, capture_output=True, check=True, timeout=300
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def place(problem: dict[str, Any], text: str) -> str:
    """`file:line`, and what is marked; up to the line's end and with `…` where the end is not told. `text`
    is the file's."""
    place = f"{problem['file']}:{problem['line']}"
    if problem["col"] is None:
        return place
    line = text.split("\n")[problem["line"] - 1].encode("utf-16-le")
    end = None if problem["endCol"] is None else 2 * (problem["endCol"] - 1)
    marked = line[2 * (problem["col"] - 1) : end].decode("utf-16-le")
    return f"{place}:{marked}{'…' if end is None else ''}"
