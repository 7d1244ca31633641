"""`occd languages`: what it tells of the languages here, of what installs others, and of a faulty file."""

import os
import subprocess
from pathlib import Path

from serving import OCCD, PATIENCE_S

from occd.data import data_folder

BASH = (data_folder("sandbox") / "languages/bash.toml").read_text()


def languages(*argv: str | Path, cwd: Path) -> tuple[int, str, str]:
    """The exit code, stdout and stderr."""
    clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    done = subprocess.run(
        [OCCD, "languages", *argv],
        env=clean,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_check_says_what_is_wrong_with_a_file_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("colour = 1\n" + BASH)
    told = "WRONG   mine.toml: colour: unknown key\n"
    assert languages("check", "mine.toml", cwd=tmp_path) == (1, told, "")
    (tmp_path / "mine.toml").write_text(BASH)
    told = "WRONG   mine.toml: 'bash' is a name of bash already\n"
    assert languages("check", "mine.toml", cwd=tmp_path) == (1, told, "")


def test_check_names_a_limit_with_its_number_and_unit(tmp_path: Path) -> None:
    proof = BASH.index("[proof]")
    fills = """fills = 'exit 4'"""
    text = BASH[:proof].replace("hello = ", "hello = 'a=x; while :; do a=$a$a; done'\n# ", 1)
    (tmp_path / "bash.toml").write_text(f"{text}[proof]\n{fills}\n")
    code, out, err = languages("check", "bash.toml", cwd=tmp_path)
    limit = "its limit of memory, 268435456 bytes"
    assert (code, err) == (1, "")
    assert f"WRONG   hello: it ended with a stop at {limit}, stdout ''" in out
    assert f"WRONG   fills: it did not meet {limit}, but ended with exit code 4, stdout ''" in out


def test_install_of_a_name_that_is_none_exits_with_125(tmp_path: Path) -> None:
    code, out, err = languages("install", "--print", "pyhton", cwd=tmp_path)
    assert (code, out, err.count("\n")) == (125, "", 1)
    assert err.startswith("occd: 'pyhton' is unknown; near it are python, ")


def test_the_commands_of_what_is_here_already_say_so(tmp_path: Path) -> None:
    told = "# nothing is missing: all are installed\n"
    assert languages("install", "--print", "bash", cwd=tmp_path) == (0, told, "")
