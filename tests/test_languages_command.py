"""`occd languages`: what it tells of the languages here, of what installs others, and of a faulty file."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from serving import OCCD, PATIENCE_S

from occd.config import Config
from occd.data import data_folder
from occd.languages.debian import of_machine
from occd.offering import _known_answers

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


def test_check_looks_for_words_of_full_memory_where_a_run_does(tmp_path: Path) -> None:
    """In the last 16 KiB of stderr."""
    fills = "echo 'x: cannot allocate 9 bytes' >&2; printf '%{}s' >&2; exit 1"
    for more, told in (
        (16_000, "ok      fills"),
        (17_000, "WRONG   fills: it did not meet its limit"),
    ):
        text = re.sub("(?s)fills = '''.*?'''", f'fills = "{fills.format(more)}"', BASH)
        (tmp_path / "bash.toml").write_text(text)
        code, out, _ = languages("check", "bash.toml", cwd=tmp_path)
        assert (code, told in out) == (int("WRONG" in told), True), out


def test_check_notes_that_a_file_from_windows_does_not_work(tmp_path: Path) -> None:
    """It is no fault: a language may refuse such files."""
    strip = 'strip = ["bom", "cr"]\n'
    assert strip in BASH
    for text, noted in ((BASH, []), (BASH.replace(strip, ""), ["cr", "bom"])):
        (tmp_path / "bash.toml").write_text(text)
        code, out, err = languages("check", "bash.toml", cwd=tmp_path)
        assert (code, err, "WRONG" in out) == (0, "", False)
        assert re.findall(r"(?m)^        strip = \[\"(\w+)\"\] takes that away", out) == noted
        assert len(re.findall(r"(?m)^note ", out)) == len(noted)


def test_check_says_where_the_file_must_lie_to_be_installed(tmp_path: Path) -> None:
    lines = BASH.splitlines(keepends=True)
    own = ("id", "name", "aliases", "candidates")
    kept = [each for each in lines if each.split(" = ")[0] not in own]
    text = 'id = "mine"\nname = "Mine"\ncandidates = ["/usr/bin/no-such"]\n'
    (tmp_path / "mine.toml").write_text(text + "".join(kept).partition("[[formatters]]")[0])
    code, out, err = languages("check", "mine.toml", cwd=tmp_path)
    folder = data_folder("sandbox") / "languages"
    told = f"put its file into {folder}, and as root: occd languages install mine"
    assert (code, err) == (1, "")
    assert out == f"no file is like /usr/bin/no-such\nTo have it, {told}\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            r"version_pattern = 'release (\d+)'",
            r"'release (\d+)' finds no version of at most 40 characters in what `/usr/bin/bash --version` wr",
        ),
        (
            r"""version = ["/bin/sh", "-c", "printf 'a\\033b'; exit 3"]""",
            "which asks for its version, ended with exit code 3, and wrote: 'a\\x1bb'\n",
        ),
        ("version = []", " finds no version of at most 40 characters in the path\n"),
        (
            'candidates = ["/etc/hostname"]',
            "/etc/hostname is not seen by programs: they see what sandbox/policy/rootfs.toml lists\n",
        ),
        (
            'candidates = ["/usr/bin/no-*-such"]',
            "no file is like /usr/bin/no-*-such\nTo have it, as root: occd languages install bash\n",
        ),
    ],
)
def test_check_says_why_no_version_was_found(tmp_path: Path, line: str, told: str) -> None:
    key = line.split(" = ")[0]
    text = line + "\n" + re.sub(rf"(?m)^{key} = .*\n", "", BASH, count=1)
    (tmp_path / "bash.toml").write_text(text)
    code, out, err = languages("check", "bash.toml", cwd=tmp_path)
    assert (code, err) == (1, "")
    assert told in out
    assert len(out) < 1000
    if "release" in line:
        assert " wrote: 'GNU bash, version " in out


def test_install_of_a_name_that_is_none_exits_with_125(tmp_path: Path) -> None:
    code, out, err = languages("install", "--print", "pyhton", cwd=tmp_path)
    assert (code, out, err.count("\n")) == (125, "", 1)
    assert err.startswith("occd: 'pyhton' is unknown; near it are python, ")


def test_the_commands_of_what_is_here_already_say_so(tmp_path: Path) -> None:
    told = "# nothing is missing: all are installed\n"
    assert languages("install", "--print", "bash", cwd=tmp_path) == (0, told, "")


def test_a_language_of_a_later_debian_is_had_in_an_image(tmp_path: Path) -> None:
    code, out, err = languages("install", "--print", "swift", cwd=tmp_path)
    _, listed, _ = languages("--all", cwd=tmp_path)
    if (of_machine() or 13) < 13:
        told = "needs Debian 13, which an image has: occd images debian-13"
        assert (code, out) == (125, "")
        assert err.startswith(f"occd: Swift {told}")
        assert told in next(line for line in listed.splitlines() if line.startswith("swift "))
    else:
        assert code == 0
        assert "swiftlang" in out or "nothing is missing" in out
    _, all_of_set, _ = languages("install", "--print", "popular", cwd=tmp_path)
    assert ("swiftlang" in all_of_set) == ("swiftlang" in out)


def test_a_data_folder_that_this_user_cannot_see_has_no_answers_for_it(tmp_path: Path) -> None:
    """Such as one below /var/lib/private."""
    (tmp_path / "closed/data").mkdir(parents=True)
    config = Config(data_dir=tmp_path / "closed/data")
    assert _known_answers(config) == tmp_path / "closed/data/languages.json"
    (tmp_path / "closed").chmod(0)
    us = os.geteuid()
    try:
        if us == 0:
            os.seteuid(65534)
        assert _known_answers(config) is None
    finally:
        os.seteuid(us)
        (tmp_path / "closed").chmod(0o700)
