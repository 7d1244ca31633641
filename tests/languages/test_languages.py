"""The languages that most people ask for, through the real sandbox. One that is not installed fails."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import trio
from sandboxed import Lab

from occd.data import data_folder
from occd.languages.loading import load_languages
from occd.languages.packages import Packages
from occd.model import File

pytestmark = pytest.mark.promise

LANGUAGES = {id: each for id, each in load_languages().items() if each.support == "core"}

HOSTILE_WORDS = [
    "two words",
    "'single' \"double\"",
    "$(id) `id` ${HOME} %s",
    "line\nbreak\ttab",
    "--version",
    "-",
    "",
    "a;b|c>d&*?[x]~\\",
    "ünï → 日本 🎈",
]


@pytest.mark.parametrize("name", LANGUAGES)
async def test_installed_versions_are_numbers_and_newest_first(lab: Lab, name: str) -> None:
    await trio.lowlevel.checkpoint()  # only an async test may have `lab`
    lab.language(name)
    versions = lab.sandbox.available[name]
    assert all(version.version.replace(".", "").isdigit() for version in versions)
    assert all("." in version.version for version in versions)
    assert list(versions) == sorted(versions, key=lambda each: each.order, reverse=True)
    assert len({version.version for version in versions}) == len(versions)


def test_a_program_loses_the_same_under_any_name_and_data_lose_nothing() -> None:
    bash, script = LANGUAGES["bash"], b"\xef\xbb\xbfecho hi\r\n"
    for name in ("main.sh", "run"):
        assert bash.readable([File(name, script)]) == [File(name, b"echo hi\n")]
    data = File("data", script)
    assert bash.readable([File("a.sh", script), data]) == [File("a.sh", b"echo hi\n"), data]


def test_a_byte_order_mark_does_not_hide_the_name_of_a_class() -> None:
    assert LANGUAGES["java"].source_name("\ufeffpublic class A { }".encode()) == "A.java"


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, each) for name, language in LANGUAGES.items() for each in language.compile_args],
)
async def test_an_argument_that_the_page_offers_works(lab: Lab, name: str, argument: str) -> None:
    language, _ = lab.language(name)
    outcomes = await lab.program(
        name, language.example, stdin=language.example_stdin, compile_args=[argument]
    )
    assert outcomes[-1].succeeded, outcomes
    assert outcomes[-1].stdout.decode() == language.example_output


@pytest.mark.parametrize("name", LANGUAGES)
async def test_syntax_error_is_shown_with_the_users_file_name(lab: Lab, name: str) -> None:
    language = lab.sandbox.languages[name]
    outcomes = await lab.program(name, language.proof.wrong or "")
    (outcome,) = outcomes  # of a compiled language, nothing ran
    said = (outcome.stdout + outcome.stderr).decode()
    assert outcome.exit_code not in (0, None)
    assert outcome.limit is None
    if name == "sql":
        assert "near line 1" in said  # sqlite3 names no files
    else:
        assert language.file_name in said
    if language.compile:
        assert "/box" not in said


async def test_type_error_is_a_compile_error(lab: Lab) -> None:
    (outcome,) = await lab.program("typescript", 'const n: number = "text";\nconsole.log(n);\n')
    assert outcome.exit_code not in (0, None)
    assert b"main.ts(1,7): error TS2322" in outcome.stdout


async def test_typescript_knows_the_types_of_node(lab: Lab) -> None:
    source = """
        import * as readline from "readline";
        const fs = require("fs");
        const lines = readline.createInterface({ input: process.stdin });
        lines.on("line", (line: string) => fs.writeSync(1, Buffer.from(line + "!\\n")));
        lines.on("close", () => setTimeout(() => console.error("closed"), 1));
        """
    outcomes = await lab.program("typescript", source, stdin="one\ntwo\n")
    assert outcomes[-1].succeeded, outcomes
    assert outcomes[-1].stdout == b"one!\ntwo!\n"
    assert outcomes[-1].stderr == b"closed\n"


@pytest.mark.parametrize("name", [name for name, each in LANGUAGES.items() if each.proof.arguments])
async def test_arguments_and_environment_arrive_unchanged(lab: Lab, name: str) -> None:
    value = "spaces 'quotes' $(id)\nnew line"
    source, env = LANGUAGES[name].proof.arguments or "", [("OCCD_TEST", value)]
    outcome = (await lab.program(name, source, args=HOSTILE_WORDS, env=env))[-1]
    assert outcome.succeeded, outcome
    assert outcome.stdout.decode() == "".join(f"<{word}>\n" for word in [*HOSTILE_WORDS, value])


@pytest.mark.parametrize("name", ["bash", "c", "python", "perl", "javascript"])
async def test_standard_streams_can_be_opened_by_name(lab: Lab, name: str) -> None:
    source = {
        "bash": "cat /dev/stdin > /dev/stdout; echo told > /dev/stderr",
        "c": """
            #include <stdio.h>
            int main(void) {
                char line[99];
                fputs(fgets(line, 99, fopen("/dev/stdin", "r")), fopen("/dev/stdout", "w"));
                fputs("told\\n", fopen("/dev/stderr", "w"));
            }""",
        "javascript": """
            const fs = require("fs");
            fs.writeFileSync("/dev/stdout", fs.readFileSync("/dev/stdin"));
            fs.writeFileSync("/dev/stderr", "told\\n");""",
        "perl": """
            open(my $in, "<", "/dev/stdin"); open(my $out, ">", "/dev/stdout");
            open(my $err, ">", "/dev/stderr"); print {$out} <$in>; print {$err} "told\\n";""",
        "python": "open('/dev/stdout', 'w').write(open('/dev/stdin').read())\n"
        "open('/dev/stderr', 'w').write('told\\n')",
    }[name]
    outcome = (await lab.program(name, source, stdin="asked\n"))[-1]
    assert (outcome.stdout, outcome.stderr) == (b"asked\n", b"told\n")


def test_the_helper_of_java_is_compiled_from_its_source(tmp_path: Path) -> None:
    """The compiled form is committed: where occd is installed there need not be a compiler for Java."""
    build = data_folder("sandbox") / "shown/build"
    options = ["--release", "11", "-g:none", "-Xlint:all", "-Werror", "-d", str(tmp_path)]
    subprocess.run(["javac", *options, build / "JavaBuild.java"], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in build.glob("*.class")}


def test_the_packages_of_a_language_are_told_as_commands() -> None:
    assert str(LANGUAGES["typescript"].install) == "apt-get install node-typescript nodejs"
    both = Packages(apt=("python3",), pip=("ruff==1", "black"), npm=("prettier@3",))
    assert str(both) == (
        "apt-get install python3 && pip install ruff==1 black && npm install -g prettier@3"
    )


@pytest.mark.parametrize("name", LANGUAGES)
def test_no_text_of_a_program_makes_a_pattern_slow(name: str) -> None:
    """By the processor time of the thread. The text has 16 times the length that is looked at, so that a
    quadratic pattern takes seconds."""
    language = LANGUAGES[name]
    patterns = list(
        filter(None, (language.out_of_memory, language.file_name_pattern, *language.hints))
    )
    words = {word for pattern in patterns for word in re.findall("[A-Za-z]{3,}", pattern)}
    began = time.thread_time()
    for text in (word * (65_536 // len(word)) for word in words):
        for pattern in patterns:
            re.search(pattern, text, re.MULTILINE)
    assert time.thread_time() - began < 1
