"""The files of the languages: what a file can say, and what is told of one that is not right."""

import json
import os
import re
import runpy
import subprocess
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest

from occd.data import data_folder
from occd.errors import OccdError
from occd.languages import Given, Language, installing, loading
from occd.languages.finding import unknown
from occd.languages.installing import private_steps, sizes
from occd.languages.loading import (
    Faulty,
    language_named,
    load_languages,
    read_language,
    read_languages,
    read_new_language,
    schema,
)
from occd.languages.modes import MODES
from occd.languages.search import search
from occd.model import Outcome, Written

ROOT = Path(__file__).parent.parent
OURS = data_folder("sandbox") / "languages"
BASH = (OURS / "bash.toml").read_text().partition("[[problems]]")[0]
DOUBLING = ", ".join(f'w{n} = "{{w{n - 1}}}{{w{n - 1}}}"' for n in range(1, 41)) + ', w0 = "x"'
FORMATTER = '{install = {apt = ["x"]}, candidates = ["/x"], command = ["{bin}"]},'
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


def test_the_page_on_adding_a_language_marks_the_keys_that_must_be_there() -> None:
    page = (ROOT / "docs/adding-a-language.md").read_text().partition("argv is an array")[0]
    rows = re.findall(r"(?m)^\| (\S*`.*?) \| ", page)
    marked = {key for row in rows for key in re.findall(r"\*\*`(\w+)`\*\*", row)}
    named = {key for row in rows for key in re.findall(r"`\[*(\w+)\]*`", row)}
    assert marked == set(schema()["required"])
    assert named == set(schema()["properties"])


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
    scripts = [step.script for step in private_steps(language, versions=True)]
    assert len(scripts) == 2
    for script in scripts:
        assert script.index("make it)") < script.index("/.installed") < script.index("mv -T")


def test_what_root_runs_takes_no_module_from_the_folder_where_root_is(tmp_path: Path) -> None:
    (tmp_path / "venv.py").write_text("print('mine')")
    (step,) = private_steps(read(tmp_path, 'install = {pip = ["x==1"]}'), versions=False)
    made = next(line for line in step.script.splitlines() if " -m venv " in line)
    before = step.script.partition(made)[0].replace("/usr/local/lib/occd", f"{tmp_path}/occd")
    script = f"umask 077\n{before}umask\n/usr/bin/python3 -m venv --help"
    said = subprocess.check_output(["/bin/sh", "-ec", script], cwd=tmp_path, text=True)
    assert said.startswith("0022\nusage: ")


def wheel(folder: Path, version: int) -> None:
    """A package `tells` with a program of this name, which tells the version."""
    info = f"tells-{version}.dist-info"
    files = {
        "tells.py": f"def tell(): print({version})",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tells\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntells = tells:tell\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"tells-{version}-py3-none-any.whl", "w") as file:
        for name, content in files.items():
            file.writestr(name, content)


def test_new_packages_take_the_place_of_the_old_ones_when_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while they are made leaves the old ones."""
    folder = tmp_path / "occd"
    monkeypatch.setattr(installing, "FOLDER", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    killed = """finish = 'kill -KILL "$$"'"""
    program = folder / "bash/main/bin/tells"
    told: list[str] = []
    for version, line, expected in [
        (1, "quirks = []", "1"),
        (2, killed, "1"),
        (2, "quirks = []", "2"),
    ]:
        wheel(tmp_path, version)
        language = read(tmp_path, f'install = {{pip = ["tells=={version}"]}}', line)
        with suppress(OccdError):
            installing._install(list(private_steps(language, versions=False)), told.append, 0)
        assert subprocess.check_output([program], text=True) == f"{expected}\n", told
        (step,) = private_steps(language, versions=False)
        assert step.needed() == (expected != str(version))
    assert len(list((folder / "packages/bash/main").iterdir())) == 1
    assert sum(each.startswith("1 of 1: FAILED after ") for each in told) == 1
    assert told.count("an occd that runs now finds what is new when it is started again") == 2


def test_a_list_of_packages_is_nothing_new(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = "case $* in *update) exit 0; esac; echo Unable to locate package >&2; exit 100"
    (tmp_path / "apt-get").write_text(f"#!/bin/sh\n{apt}\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    language = read(tmp_path, 'install = {apt = ["no-such-package"]}')
    told: list[str] = []
    with pytest.raises(OccdError, match="not installed: Bash: no-such-package"):
        installing._install(installing.steps([language], versions=False), told.append, 0)
    assert len(told) == 4
    assert told[3].endswith("Unable to locate package")


def test_packages_that_lie_in_a_folder_are_replaced_by_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier ones lay there."""
    monkeypatch.setattr(installing, "FOLDER", str(tmp_path))
    (step,) = private_steps(read(tmp_path, 'install = {npm = ["x@1"]}'), versions=False)
    (tmp_path / "bash/main/old").mkdir(parents=True)
    script = "\n".join(line for line in step.script.splitlines() if not line.startswith("npm "))
    for _ in range(2):
        subprocess.run(["/bin/sh", "-ec", script], check=True)
        assert [path.name for path in (tmp_path / "bash/main").iterdir()] == [".installed"]
        (made,) = (tmp_path / "packages/bash/main").iterdir()
    failing = script.replace(made.name, "other").replace("printf", "exit 7\nprintf")
    assert subprocess.run(["/bin/sh", "-ec", failing]).returncode == 7
    assert (tmp_path / "bash/main/.installed").exists()
    assert list((tmp_path / "packages/bash/main").iterdir()) == [made]


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
        (
            [f"version_pattern = '({'|'.join(map(str, range(300)))})'"],
            "version_pattern: it has more than 1000 ",
        ),
        (["version_pattern = 'x'"], "version_pattern: it has no group"),
        ([r"version_pattern = '\p{L}'"], "version_pattern: it has no group"),
        (['limits = {cpu_time = "abc"}'], "limits: cpu_time must be a number above 0"),
        (["limits = {memory = -1}"], "limits: memory must be a number above 0"),
        ([f"limits = {{memory = {'9' * 5000}}}"], "it cannot be read: "),
        ([f"words = {{{DOUBLING}}}"], "words: {w13} has more than 4096 characters"),
        (['candidates = ["/usr/bin/x\\u0000y"]'], "candidates.0: must look like "),
        (['candidates = ["/usr/bin/\\u001b[2J"]'], "candidates.0: must look like "),
        (['candidates = ["/usr/../../root/x"]'], "candidates.0: no part may be .."),
        (['candidates = ["/*/*/?/[a]/x"]'], "candidates.0: at most 3 parts may have a *, "),
        ([f"candidates = {['/x'] * 21}"], "candidates: has more than 20 entries"),
        ([f"formatters = [{FORMATTER * 6}]"], "formatters: has more than 5 entries"),
        (['name = "\\u001b[2J"'], "name: must look like "),
        (['run = ["a\\u0000b"]'], "run.0: must look like "),
        (['env = {"A=B" = "x"}'], "env.A=B: must look like "),
        ([f"run = ['{'{a}' * 99_999}']", f"words = {{a = '{'x' * 4096}'}}"], "run: it is longer "),
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
        (['editor_mode = "klingon"'], "editor_mode: the page's editor has no mode 'klingon'; "),
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


def test_a_name_of_no_language_is_told_with_those_near_it() -> None:
    languages = read_languages().languages
    assert unknown(languages, "Pyhton") == "'Pyhton' is unknown; near it are python, jython, cython"
    assert unknown(languages, "xqzxqzxqz") == "'xqzxqzxqz' is unknown"


def test_a_name_is_compared_no_longer_than_its_beginning() -> None:
    languages, sent = read_languages().languages, "javascript" + "x" * 10**6
    began = time.process_time()
    assert unknown(languages, sent).startswith("'javascriptx")
    assert time.process_time() - began < 0.2


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of languages instead of ours."""
    monkeypatch.setattr(loading, "_OURS", tmp_path)
    loading._read_ours.cache_clear()
    yield tmp_path
    loading._read_ours.cache_clear()


def test_who_names_a_language_whose_file_is_faulty_is_told_the_file_and_the_key(ours: Path) -> None:
    (ours / "bash.toml").write_text(BASH)
    (ours / "klingon.toml").write_text(changed("run = 5"))
    assert language_named("SHELL").id == "bash"
    for name, told in [
        ("Klingon", r"^klingon\.toml: run: must be a list"),
        ("bahs", r"^'bahs' is unknown; near it are bash; `occd languages --all` lists them all$"),
    ]:
        with pytest.raises(OccdError, match=told):
            language_named(name)


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ('id = "python"', "'python' is a name of python already"),
        ('name = "Python"', "'python' is a name of python already"),
        ('aliases = ["x", "PY"]', "'py' is a name of python already"),
    ],
)
def test_a_new_file_with_a_name_of_another_language_is_faulty(
    tmp_path: Path, line: str, taken: str
) -> None:
    (tmp_path / "new.toml").write_text(changed(line, 'id = "new"', 'name = "New"', "aliases = []"))
    with pytest.raises(Faulty) as raised:
        read_new_language(tmp_path / "new.toml")
    assert str(raised.value) == taken


def test_a_file_may_take_the_place_of_one_of_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "bash.toml").write_text(changed('name = "Other Bash"'))
    assert read_new_language(tmp_path / "bash.toml").name == "Other Bash"
    assert read_new_language(OURS / "bash.toml").name == "Bash"


def test_the_editor_modes_are_those_of_the_page() -> None:
    sources = (ROOT / "web/src" / name for name in ("modes.ts", "mode-more.ts"))
    named = (re.findall(r"(?m)^  (\w+): async \(\) =>", each.read_text()) for each in sources)
    assert sorted(name for names in named for name in names) == MODES


def test_a_pattern_that_takes_for_ever_finds_nothing() -> None:
    began = time.monotonic()
    assert search(r"(a|a)*b", "a" * 40) is None
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("id", "head", "unit"),
    [
        ("haxe", "class ", "a"),
        ("haxe", "class a ", "static "),
        ("haxe", "class a static ", "public "),
        ("erlang", "", "-module(a"),
    ],
)
def test_no_source_takes_long_to_name(id: str, head: str, unit: str) -> None:
    """All requests wait meanwhile. A pattern that looked at a text in many ways would take seconds."""
    language = load_languages()[id]
    source = (head + unit * 65_536).encode()[:65_536]
    began = time.process_time()
    assert language.source_name(source) == language.file_name
    assert time.process_time() - began < 0.15


@pytest.mark.parametrize(
    ("id", "head", "unit"),
    [
        ("prolog", "ERROR: ", ": "),
        ("prolog", "ERROR: ", ": Stack limit ("),
        ("deno", "", "fatal"),
        ("python", "", "a."),
        ("swift", "", "Fatal error: "),
        ("swift", "", "\n"),
    ],
)
def test_no_end_of_stderr_takes_long(id: str, head: str, unit: str) -> None:
    failed = Outcome(1, None, None, Written(), Written(), 0.0, 0.0, 0)
    said = (head + unit * 16_384)[:16_384]
    language = load_languages()[id]
    took = []
    for _ in range(3):  # other processes on the same processor make one take longer
        began = time.process_time()
        assert language.judged(failed, said).limit is None
        took.append(time.process_time() - began)
    assert min(took) < 0.01


def test_the_page_of_the_languages_is_what_their_files_say() -> None:
    """`make docs` writes it."""
    ran = runpy.run_path(str(ROOT / "packaging/languages.py"))
    assert (ROOT / "docs/languages.md").read_text() == ran["text"]()
