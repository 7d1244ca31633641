"""Programs are formatted by their languages' own formatters, in the jail, as any submission is run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from serving import API, Server, serving

from occd.config import Config
from occd.languages.fields import Formatter
from occd.languages.loading import load_languages
from occd.languages.packages import Packages
from occd.sandbox import open_sandbox

FORMATTED = {
    "bash": ("if true;then\n    echo  hi\nfi\n", "if true; then\n  echo hi\nfi\n"),
    "c": ("int main(void){return  0;}\n", "int main(void) { return 0; }\n"),
    "cpp": ("struct A{int a;};\n", "struct A {\n    int a;\n};\n"),
    "go": (
        "package main\nfunc main(){x:=1;_=x}\n",
        "package main\n\nfunc main() { x := 1; _ = x }\n",
    ),
    "perl": ("my $x=1 ;print  $x;\n", "my $x = 1;\nprint $x;\n"),
    "python": ("def f( x ):\n  return 'ö'\n", 'def f(x):\n    return "ö"\n'),
    "rust": ("fn main(){let _x=1;}\n", "fn main() {\n    let _x = 1;\n}\n"),
}
"""What `packaging/system-packages.sh` installs a formatter for: a program, and the same in order."""

BROKEN = {
    "bash": ("if true; then\n", "main.sh:1:1:"),
    "go": ("package main\n\nfunc main() { 1 + }\n", "main.go:3:19:"),
    "perl": ("if (( {\n", "1:"),
    "python": ("x = 1\ndef f(:\n", "2:6"),
    "rust": ("fn main() { let }\n", "1:17"),
}
"""clang-format is missing: it formats everything."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("formatting") / "data") as server:
        yield server


def result_of(server: Server, language: str, source: str) -> dict[str, Any]:
    return server.run(source, language=language, format=True)


@pytest.mark.parametrize("name", FORMATTED)
def test_a_program_is_put_in_order_and_not_run(server: Server, name: str) -> None:
    messy, neat = FORMATTED[name]
    result = result_of(server, name, messy)
    assert (result["verdict"], result["compile"]) == ("ok", None)
    assert (result["run"]["stdout"], result["run"]["stderr"]) == (neat, "")
    assert result_of(server, name, neat)["run"]["stdout"] == neat


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_said_with_its_line(server: Server, name: str) -> None:
    source, where = BROKEN[name]
    result = result_of(server, name, source)
    assert result["verdict"] == "compile_error"
    assert where in result["run"]["stderr"]


@pytest.mark.parametrize("name", FORMATTED)
def test_the_example_keeps_its_meaning(server: Server, name: str) -> None:
    language = load_languages()[name]
    neat = result_of(server, name, language.example)["run"]["stdout"]
    ran = server.run(neat, language=name, stdin=language.example_stdin)
    assert ran["run"]["stdout"] == language.example_output


def test_the_list_of_languages_says_which_can_be_formatted(server: Server) -> None:
    languages = server.get(f"{API}/languages").json()["languages"]
    said = {each["id"] for each in languages if each["format"]}
    assert FORMATTED.keys() <= said
    assert "sql" not in said


def test_other_files_and_their_settings_are_seen_by_the_formatter(server: Server) -> None:
    style = {
        "name": "pyproject.toml",
        "content": "[tool.black]\nskip-string-normalization = true\n",
    }
    files = [style, {"name": "main.py", "content": "x =  'a'\n"}]
    answer = server.post({"language": "python", "format": True, "files": files}, "?wait=60")
    assert answer.json()["run"]["stdout"] == "x = 'a'\n"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stdin", "1"),
        ("args", ["1"]),
        ("env", {"A": "1"}),
        ("compile_args", ["-g"]),
        ("interactive", True),
        ("tty", {"rows": 24, "cols": 80}),
        ("tests", [{"stdin": "1", "expected_stdout": "1"}]),
        ("artifacts", ["*"]),
    ],
)
def test_what_means_nothing_to_a_formatter_is_refused_by_name(
    server: Server, field: str, value: object
) -> None:
    answer = server.post({"language": "c", "source": "", "format": True, field: value})
    assert answer.status == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert "format" in answer.json()["detail"]


def test_a_language_without_a_formatter_is_refused(server: Server) -> None:
    answer = server.post({"language": "sql", "source": "select 1", "format": True})
    assert answer.status == 422
    assert (
        answer.json()["detail"]
        == "format: no formatter for SQL (SQLite) is installed on this server"
    )


def test_a_formatter_is_held_to_the_limits_of_its_submission(server: Server) -> None:
    result = server.run("x = 1\n" * 2000, format=True, limits={"output": 1000})
    assert (result["verdict"], result["run"]["stdout_truncated"]) == ("output_limit", True)


def test_a_formatted_submission_can_be_run_again(server: Server) -> None:
    id = server.submit("x  = 1", format=True)
    server.result(id)
    again = server.request("POST", f"{API}/submissions/{id}/rerun?wait=60").json()
    assert (again["verdict"], again["run"]["stdout"]) == ("ok", "x = 1\n")


@pytest.mark.parametrize("works", [True, False])
async def test_the_first_formatter_that_answers_in_the_jail_is_used(
    works: bool, nothing_left_over: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = load_languages()["go"]
    absent = Formatter(Packages(), ("/nowhere/gofmt",), ("{bin}",))
    failing = Formatter(Packages(), ("/usr/bin/false",), ("{bin}",))
    silent = Formatter(Packages(), ("/usr/bin/true",), ("{bin}",))
    chosen = replace(go, formatters=(absent, failing, silent, *(go.formatters if works else ())))
    monkeypatch.setattr("occd.sandbox.nsjail.load_languages", lambda: {"go": chosen})
    async with open_sandbox(Config(), only="go") as sandbox:
        assert "go" in sandbox.available
        found = sandbox.formatters.get("go")
    assert (found and found.formatter) == (go.formatters[0] if works else None)
