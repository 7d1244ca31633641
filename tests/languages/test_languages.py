"""Every language of `sandbox/languages`, through the real sandbox. One that is not installed fails."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import trio
from sandboxed import Lab

from occd.data import data_folder
from occd.errors import ConfigError
from occd.languages.loading import load_languages
from occd.languages.packages import Packages
from occd.model import File

pytestmark = pytest.mark.promise

LANGUAGES = load_languages()

EDITOR_MODES = {
    *("python", "c", "cpp", "java", "javascript", "typescript", "go", "rust", "ruby", "php"),
    *("perl", "shell", "lua", "sql"),
}

BROKEN = {
    "bash": "if then\n",
    "c": "int main(void) { return 0 }\n",
    "cpp": "int main() { return 0 }\n",
    "go": "package main\n\nfunc main() { 1 + }\n",
    "java": "public class Main { void main( { } }\n",
    "javascript": "console.log(;\n",
    "lua": "print(\n",
    "perl": "print ((;\n",
    "php": "<?php echo ;;( \n",
    "python": "print(\n",
    "ruby": "def end end\n",
    "rust": "fn main() { let }\n",
    "sql": "SELEC 1;\n",
    "typescript": "const n: number = ;\n",
}

EXITS_3 = {
    "bash": "exit 3",
    "c": "int main(void) { return 3; }",
    "cpp": "int main() { return 3; }",
    "go": 'package main\n\nimport "os"\n\nfunc main() { os.Exit(3) }',
    "java": "class Main { public static void main(String[] a) { System.exit(3); } }",
    "javascript": "process.exit(3)",
    "lua": "os.exit(3)",
    "perl": "exit 3;",
    "php": "<?php exit(3);",
    "python": "raise SystemExit(3)",
    "ruby": "exit 3",
    "rust": "fn main() { std::process::exit(3) }",
    "sql": ".exit 3",
    "typescript": "process.exit(3);",
}

# Each prints its arguments and then the variable OCCD_TEST, every one in angle brackets on its own.
# (SQL is missing: sqlite3 has neither.)
TELLS_ARGUMENTS = {
    "bash": 'for word in "$@" "$OCCD_TEST"; do printf "<%s>\\n" "$word"; done',
    "c": """
        #include <stdio.h>
        #include <stdlib.h>
        int main(int argc, char **argv) {
            for (int i = 1; i < argc; i++) printf("<%s>\\n", argv[i]);
            printf("<%s>\\n", getenv("OCCD_TEST"));
        }""",
    "cpp": """
        #include <cstdlib>
        #include <iostream>
        int main(int argc, char **argv) {
            for (int i = 1; i < argc; i++) std::cout << '<' << argv[i] << ">\\n";
            std::cout << '<' << std::getenv("OCCD_TEST") << ">\\n";
        }""",
    "go": """
        package main
        import ("fmt"; "os")
        func main() {
            for _, word := range append(os.Args[1:], os.Getenv("OCCD_TEST")) {
                fmt.Printf("<%s>\\n", word)
            }
        }""",
    "java": """
        class Main {
            public static void main(String[] args) {
                for (String word : args) System.out.print("<" + word + ">\\n");
                System.out.print("<" + System.getenv("OCCD_TEST") + ">\\n");
            }
        }""",
    "javascript": """
        for (const word of [...process.argv.slice(2), process.env.OCCD_TEST]) console.log(`<${word}>`)
        """,
    "lua": """
        for _, word in ipairs(arg) do print("<" .. word .. ">") end
        print("<" .. os.getenv("OCCD_TEST") .. ">")""",
    "perl": 'print "<$_>\\n" for @ARGV, $ENV{OCCD_TEST};',
    "php": """<?php
        foreach ([...array_slice($argv, 1), getenv("OCCD_TEST")] as $word) echo "<$word>\\n";""",
    "python": """
import os, sys
for word in [*sys.argv[1:], os.environ["OCCD_TEST"]]:
    print(f"<{word}>")""",
    "ruby": '[*ARGV, ENV["OCCD_TEST"]].each { |word| print "<#{word}>\\n" }',
    "rust": """
        fn main() {
            for word in std::env::args().skip(1).chain(std::env::var("OCCD_TEST")) {
                println!("<{word}>");
            }
        }""",
    "typescript": """
        const words: (string | undefined)[] = [...process.argv.slice(2), process.env.OCCD_TEST];
        for (const word of words) console.log(`<${word}>`);""",
}
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

TEXT = "naïve → 日本 🎈"
PRINTS_TEXT = {
    "bash": f'echo "{TEXT}"',
    "c": f'#include <stdio.h>\nint main(void) {{ puts("{TEXT}"); }}',
    "cpp": f'#include <iostream>\nint main() {{ std::cout << "{TEXT}\\n"; }}',
    "go": f'package main\n\nimport "fmt"\n\nfunc main() {{ fmt.Println("{TEXT}") }}',
    "java": "class Main { public static void main(String[] a) { "
    f'System.out.println("{TEXT}"); }} }}',
    "javascript": f'console.log("{TEXT}")',
    "lua": f'print("{TEXT}")',
    "perl": f'print "{TEXT}\\n";',
    "php": f'<?php echo "{TEXT}\\n";',
    "python": f'print("{TEXT}")',
    "ruby": f'puts "{TEXT}"',
    "rust": f'fn main() {{ println!("{TEXT}"); }}',
    "sql": f"SELECT '{TEXT}';",
    "typescript": f'console.log("{TEXT}");',
}


def test_each_language_is_in_every_table() -> None:
    for table in (BROKEN, EXITS_3, PRINTS_TEXT, {**TELLS_ARGUMENTS, "sql": ""}):
        assert table.keys() == LANGUAGES.keys()


@pytest.mark.parametrize("name", LANGUAGES)
def test_editor_knows_its_mode(name: str) -> None:
    assert LANGUAGES[name].editor_mode in EDITOR_MODES


@pytest.mark.parametrize("name", LANGUAGES)
async def test_installed_versions_are_numbers_and_newest_first(lab: Lab, name: str) -> None:
    await trio.lowlevel.checkpoint()  # only an async test may have `lab`
    lab.language(name)
    versions = lab.sandbox.available[name]
    assert all(version.version.replace(".", "").isdigit() for version in versions)
    assert all("." in version.version for version in versions)
    assert list(versions) == sorted(versions, key=lambda each: each.order, reverse=True)
    assert len({version.version for version in versions}) == len(versions)


@pytest.mark.parametrize("name", LANGUAGES)
async def test_hello_prints_its_output(lab: Lab, name: str) -> None:
    language = lab.sandbox.languages[name]
    outcomes = await lab.program(name, language.hello)
    assert [outcome.succeeded for outcome in outcomes] == [True] * len(outcomes), outcomes
    assert outcomes[-1].stdout.decode() == language.hello_output
    assert outcomes[-1].stderr == b""
    for compiled in outcomes[:-1]:
        assert (compiled.stdout, compiled.stderr) == (b"", b"")


@pytest.mark.parametrize("name", LANGUAGES)
async def test_a_text_from_windows_runs(lab: Lab, name: str) -> None:
    """With a byte order mark and its line ends, as editors there and forms on web pages send it."""
    language = LANGUAGES[name]
    source = "\ufeff" + language.example.lstrip().replace("\n", "\r\n")
    outcomes = await lab.program(name, source, stdin=language.example_stdin)
    assert (outcomes[-1].stdout.decode(), outcomes[-1].stderr) == (language.example_output, b"")


def test_a_program_loses_the_same_under_any_name_and_data_lose_nothing() -> None:
    bash, script = LANGUAGES["bash"], b"\xef\xbb\xbfecho hi\r\n"
    for name in ("main.sh", "run"):
        assert bash.readable([File(name, script)]) == [File(name, b"echo hi\n")]
    data = File("data", script)
    assert bash.readable([File("a.sh", script), data]) == [File("a.sh", b"echo hi\n"), data]


def test_a_byte_order_mark_does_not_hide_the_name_of_a_class() -> None:
    assert LANGUAGES["java"].source_name("\ufeffpublic class A { }".encode()) == "A.java"


@pytest.mark.parametrize("name", LANGUAGES)
async def test_example_answers_its_stdin(lab: Lab, name: str) -> None:
    language = lab.sandbox.languages[name]
    outcomes = await lab.program(name, language.example, stdin=language.example_stdin)
    assert outcomes[-1].succeeded, outcomes
    assert outcomes[-1].stdout.decode() == language.example_output


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
    outcomes = await lab.program(name, BROKEN[name])
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


@pytest.mark.parametrize("name", LANGUAGES)
async def test_exit_code_is_the_programs(lab: Lab, name: str) -> None:
    outcome = (await lab.program(name, EXITS_3[name]))[-1]
    assert (outcome.exit_code, outcome.signal, outcome.limit) == (3, None, None), outcome


@pytest.mark.parametrize("name", TELLS_ARGUMENTS)
async def test_arguments_and_environment_arrive_unchanged(lab: Lab, name: str) -> None:
    value = "spaces 'quotes' $(id)\nnew line"
    source, env = TELLS_ARGUMENTS[name], [("OCCD_TEST", value)]
    outcome = (await lab.program(name, source, args=HOSTILE_WORDS, env=env))[-1]
    assert outcome.succeeded, outcome
    assert outcome.stdout.decode() == "".join(f"<{word}>\n" for word in [*HOSTILE_WORDS, value])


@pytest.mark.parametrize("name", LANGUAGES)
async def test_text_beyond_ascii_is_printed_as_utf8(lab: Lab, name: str) -> None:
    outcomes = await lab.program(name, PRINTS_TEXT[name])
    assert outcomes[-1].stdout.decode() == f"{TEXT}\n", outcomes


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


@pytest.mark.parametrize(
    "line",
    [
        'run = ["{bin}", "{flie}"]',
        'out_of_memory = "("',
        "run = 5",
        'strip = ["lf"]',
        '[hints]\n"(" = "x"',
        'compile_args = ["-g"]',
        '[[formatters]]\ninstall = {apt = []}\ncandidates = []\ncommand = ["{flie}"]',
        "[[formatters]]\ninstall = {apt = []}\ncommand = []",
        'install = "apt-get install bash"',
        'install = {dnf = ["bash"]}',
        'install = {apt = "bash"}',
        'install = {apt = ["--reinstall"]}',
    ],
)
def test_a_language_that_makes_no_sense_is_refused_by_name(tmp_path: Path, line: str) -> None:
    lines = (data_folder("sandbox") / "languages/bash.toml").read_text().splitlines()
    kept = [each for each in lines if not each.startswith(line.split(" = ")[0])]
    (tmp_path / "bad.toml").write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=r"bad\.toml: "):
        load_languages(tmp_path)


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
