"""The files of the languages: what a file can say, and what is told of one that is not right."""

import json
import os
import re
import runpy
import subprocess
import time
import tomllib
from pathlib import Path

import jsonschema
import pytest

from occd.data import data_folder
from occd.errors import OccdError
from occd.languages import Given, Language, installing
from occd.languages.installing import private_steps, sizes
from occd.languages.loading import Faulty, read_language, read_languages, schema
from occd.languages.search import search
from occd.model import Outcome, Written

ROOT = Path(__file__).parent.parent
OURS = data_folder("sandbox") / "languages"
BASH = (OURS / "bash.toml").read_text().partition("[[problems]]")[0]
DOUBLING = ", ".join(f'w{n} = "{{w{n - 1}}}{{w{n - 1}}}"' for n in range(1, 41)) + ', w0 = "x"'
GIVEN = Given("/usr/lib/x-1.2/bin/x", "1.2", "a/b.sh", memory=7)


def changed(*lines: str, of: str = BASH) -> str:
    """The file with these lines instead of those of the same keys."""
    for line in reversed(lines):
        key = line.split(" = ")[0]
        of = line + "\n" + re.sub(rf"(?m)^{re.escape(key)} = .*\n", "", of)
    return of


def read(folder: Path, *lines: str) -> Language:
    (folder / "one.toml").write_text(changed(*lines))
    return read_language(folder / "one.toml")


def test_all_of_ours_are_right() -> None:
    found = read_languages()
    assert found.faults == ()
    assert len(found.languages) == len(list(OURS.glob("*.toml")))


@pytest.mark.parametrize("path", sorted(OURS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_schema_knows_what_occd_reads(path: Path) -> None:
    jsonschema.Draft202012Validator(schema()).validate(tomllib.loads(path.read_text()))


def test_the_schema_beside_the_files_is_the_one_that_occd_reads_by() -> None:
    """Editors find it there: `occd languages schema` writes it."""
    assert json.loads((OURS / "language.schema.json").read_text()) == schema()


def test_the_size_of_each_of_ours_is_known() -> None:
    """`make sizes` writes them."""
    assert sizes().keys() == read_languages().languages.keys()


# Words


def test_words_are_replaced_and_doubled_braces_are_braces(tmp_path: Path) -> None:
    argv = """run = ["{bin}", "{dir}/../lib-{version}", "{folder}", "{{file}}", "{ print }", "{file}"]"""
    assert read(tmp_path, argv).run_argv(GIVEN) == [
        *("/usr/lib/x-1.2/bin/x", "/usr/lib/x-1.2/bin/../lib-1.2", "a"),
        *("{file}", "{ print }", "a/b.sh"),
    ]


def test_own_words_may_have_words(tmp_path: Path) -> None:
    language = read(
        tmp_path,
        'words = {jar = "{lib}/x.jar", lib = "{dir}/{{lib}}"}',
        'run = ["java", "{jar}", "{file}"]',
        'env = {X_HOME = "{lib}", X_VERSION = "v{version}"}',
    )
    assert language.run_argv(GIVEN) == ["java", "/usr/lib/x-1.2/bin/{lib}/x.jar", "a/b.sh"]
    assert language.environment(GIVEN.binary, "1.2") == {
        "X_HOME": "/usr/lib/x-1.2/bin/{lib}",
        "X_VERSION": "v1.2",
    }


def test_several_steps_are_one_command_that_ends_where_one_fails(tmp_path: Path) -> None:
    steps = """compile = [["as", "-o", "x y.o", "{file}"], ["ld", "x y.o", "-o", "{program}"]]"""
    assert read(tmp_path, steps, 'run = ["./{program}"]').compile_argv(GIVEN) == [
        *("/bin/sh", "-ec", "as -o 'x y.o' a/b.sh\nld 'x y.o' -o main"),
    ]


def test_some_exit_codes_mean_success(tmp_path: Path) -> None:
    language = read(tmp_path, "success = [10, 20]")
    nothing = Written()
    for code, expected in ((10, 0), (20, 0), (11, 11), (0, 0)):
        run = Outcome(code, None, None, nothing, nothing, 0.0, 0.0, 0)
        assert language.judged(run, "").exit_code == expected


def test_a_script_finishes_each_folder_before_it_counts_as_installed(tmp_path: Path) -> None:
    language = read(
        tmp_path,
        'install = {apt = ["x"]}',
        'versions = {1 = {pip = ["x==1"]}, 2 = {npm = ["x@2"]}}',
        'finish = "make it"',
    )
    ends = [step.script.splitlines()[-3:] for step in private_steps(language, versions=True)]
    assert ends == [
        [
            "make it)",
            f"printf '%s\\n' '{names}",
            f"make it' > /usr/local/lib/occd/bash/{folder}/.installed",
        ]
        for folder, names in ((1, "x==1"), (2, "x@2"))
    ]


def test_what_root_runs_takes_no_module_from_the_folder_where_root_is(tmp_path: Path) -> None:
    (tmp_path / "venv.py").write_text("print('mine')")
    (step,) = private_steps(read(tmp_path, 'install = {pip = ["x==1"]}'), versions=False)
    made = next(line for line in step.script.splitlines() if " -m venv " in line)
    before = step.script.partition(made)[0].replace("/usr/local/lib/occd", f"{tmp_path}/occd")
    script = f"umask 077\n{before}umask\n/usr/bin/python3 -m venv --help"
    said = subprocess.check_output(["/bin/sh", "-ec", script], cwd=tmp_path, text=True)
    assert said.startswith("0022\nusage: ")


def test_two_installations_exclude_each_other_and_others_can_read_what_they_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "FOLDER", str(tmp_path / "occd"))
    before = os.umask(0o077)
    try:
        installing.install([], lambda _: None, versions=False)
        assert (tmp_path / "occd").stat().st_mode & 0o777 == 0o755
        with installing._locked(), pytest.raises(OccdError, match="already: wait"):
            installing.install([], lambda _: None, versions=False)
    finally:
        os.umask(before)


# Faults


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (['colour = "red"'], "colour: unknown key"),
        (["run = 5"], "run: must be a list, as in "),
        (['run = ["{bin}", "{flie}"]'], "run: {flie} means nothing here"),
        (['version = ["{bin}", "{version}"]'], "version: {version} means nothing here"),
        (['env = {X = "{file}"}'], "env.X: {file} means nothing here"),
        (['compile = [["as"], ["{o}"]]'], "compile.1: {o} means nothing here"),
        (['words = {a = "{b}", b = "{c}", c = "{a}"}'], "words: {a} → {b} → {c} → {a} never ends"),
        (['words = {file = "x"}'], "words: 'file' cannot be an own word"),
        (['out_of_memory = "("'], "out_of_memory: this is no regular expression: "),
        (["version_pattern = 'x'"], "version_pattern: it has no group"),
        ([r"version_pattern = '\p{L}'"], "version_pattern: it has no group"),
        (['limits = {cpu_time = "abc"}'], "limits: cpu_time must be a number above 0"),
        (["limits = {memory = -1}"], "limits: memory must be a number above 0"),
        ([f"limits = {{memory = {'9' * 5000}}}"], "it cannot be read: "),
        ([f"words = {{{DOUBLING}}}"], "words: {w13} has more than 4096 characters"),
        (['candidates = ["/usr/bin/x\\u0000y"]'], "candidates.0: must look like "),
        (['versions = {"../x" = {apt = ["x"]}}'], "versions.../x: must look like "),
        (['"a\\u001b[2J" = 1'], "'a\\x1b[2J: unknown key'"),
        (['strip = ["lf"]'], "strip.0: must be 'bom' or 'cr'"),
        (['hints = {"(" = "x"}'], "hints.(: this is no regular expression"),
        (['compile_args = ["-g"]'], "compile_args: the language is not compiled"),
        (['install = "apt-get install bash"'], "install: must be a table"),
        (['install = {dnf = ["bash"]}'], "install.dnf: unknown key"),
        (['install = {apt = ["--reinstall"]}'], "install.apt.0: must look like "),
        (["limits = {memroy = 5}"], "limits: there is no limit memroy"),
        (["candidates = []"], "candidates: must have an entry"),
        (['support = "best"'], "support: must be 'core', 'popular', 'more' or 'tried'"),
        (['id = "Bash"'], "id: must look like"),
        (['home = "javascript:alert(1)"'], "home: must look like"),
        (['about = "two\\nlines"'], "about: must look like"),
        (['family = "sh"'], "family: is written together with implementation"),
        (["[["], "this is no TOML: "),
    ],
)
def test_a_fault_is_a_line_that_names_the_key(tmp_path: Path, lines: list[str], fault: str) -> None:
    with pytest.raises(Faulty) as raised:
        read(tmp_path, *lines)
    assert str(raised.value).startswith(fault)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xff", "bad.toml: the file is not UTF-8: byte 1"),
        (b"", "bad.toml: id: is missing"),
        (b"x = " + b"[" * 10_000, "bad.toml: it is nested too deeply"),
        (b"#" * (2**20 + 1), "bad.toml: the file has more than 1048576 bytes"),
        (BASH.encode(), "bad.toml: 'bash' is a name of bash already"),
        (changed('id = "other"').encode(), "bad.toml: 'bash' is a name of bash already"),
    ],
)
def test_a_faulty_file_costs_its_own_language(tmp_path: Path, content: bytes, fault: str) -> None:
    for name in ("a.toml", "python.toml"):
        source = OURS / ("bash.toml" if name == "a.toml" else name)
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "bad.toml").write_bytes(content)
    (tmp_path / "folder.toml").mkdir()
    found = read_languages(tmp_path)
    assert set(found.languages) == {"bash", "python"}
    first, second = found.faults
    assert first.startswith(fault)
    assert second == "folder.toml: the file cannot be read: Is a directory"


def test_a_pattern_that_takes_for_ever_finds_nothing() -> None:
    began = time.monotonic()
    assert search(r"(a|a)*b", "a" * 40) is None
    assert time.monotonic() - began < 10


def test_the_page_of_the_languages_is_what_their_files_say() -> None:
    """`make docs` writes it."""
    ran = runpy.run_path(str(ROOT / "packaging/languages.py"))
    assert (ROOT / "docs/languages.md").read_text() == ran["text"]()
