"""The patterns of problems in a language's file."""

from pathlib import Path

import pytest

from occd.data import data_folder
from occd.languages.loading import Faulty, read_language

GOOD = r"""stage = "run"
pattern = '(?P<file>[^:\n]+):(?P<line>\d+): (?P<message>.*)'
"""
TRACE = r"""stage = "run"
pattern = 'Trace: (?P<message>.*)'
frame = ' (?P<file>[^:\n]+):(?P<line>\d+)'
"""


def load(folder: Path, *problems: str) -> list[dict[str, object]]:
    """The patterns of Lua's file with these instead of its own."""
    own = (data_folder("sandbox") / "languages" / "lua.toml").read_text()
    text = own.partition("[[problems]]")[0]
    (folder / "lua.toml").write_text(text + "".join(f"[[problems]]\n{each}\n" for each in problems))
    return [each.json() for each in read_language(folder / "lua.toml").problems]


def test_a_pattern_is_sent_in_the_form_of_javascript(tmp_path: Path) -> None:
    counted = 'columns = "bytes"\ntab = 8\nfirst_column = 0\nstdout = true\n'
    first, second = load(tmp_path, GOOD, TRACE + counted + 'innermost = "last"')
    assert first == {
        "stage": "run",
        "pattern": r"(?<file>[^:\n]+):(?<line>\d+): (?<message>.*)",
    }
    assert second["frame"] == r" (?<file>[^:\n]+):(?<line>\d+)"
    assert (second["columns"], second["tab"], second["first_column"]) == ("bytes", 8, 0)
    assert (second["innermost"], second["stdout"]) == ("last", True)


@pytest.mark.parametrize(
    ("problem", "fault"),
    [
        (GOOD.replace("(?P<message>.*)", "(?P<message>.*"), "missing )"),
        (GOOD.replace("message", "text"), "may be called text"),
        (GOOD.replace("(?P<message>.*)", ".*"), "called message"),
        (GOOD.replace("?P<line>", "?P<col>"), "called line"),
        (GOOD.replace('"run"', '"link"'), "'link' is none of compile, run"),
        (GOOD + 'columns = "tabs"', "'tabs' is none of bytes"),
        (GOOD + "tab = 3", "tab: 3 is none of None, 0, 1, 8"),
        (GOOD + "first_column = 2", "first_column: 2 is none of 0, 1"),
        (GOOD + "regex = 'x'", "unknown key regex"),
        (GOOD.replace("stage", "# stage"), "stage is missing"),
        (GOOD + "skip = ' .*'", "has a frame"),
        (TRACE.replace("(?P<line>", "("), "called line"),
        (TRACE + "skip = 3", "skip is no text"),
        (TRACE + "end = ''", "end is no text"),
        (TRACE + f"skip = '{'x|' * 600}y'", "skip has more than 1000 characters"),
        # What JavaScript reads otherwise, or not at all.
        (TRACE + r"skip = '\s+'", r"JavaScript may read this otherwise: \s+"),
        (TRACE + r"skip = '\A.'", r"otherwise: \A."),
        (TRACE + "skip = '(?i)x'", "otherwise: (?i)x"),
        (TRACE + "skip = '(?P<file>x)(?P=file)'", "otherwise: (?P=file)"),
        (TRACE + "skip = 'x{,3}'", "otherwise: {,3}"),
        (TRACE + "skip = '[]x]'", "otherwise: []x]"),
        (TRACE + "skip = 'x++'", "otherwise: "),
        (TRACE + "skip = '(?>x)'", "otherwise: "),
        (TRACE + "skip = 'x(?<=(x)[(])+y'", "otherwise: )+y"),
        (TRACE + r"skip = '(?:(?!x\()?y)'", "otherwise: )?y)"),
        (TRACE + r"skip = '\u0041'", r"otherwise: \u0041"),
    ],
)
def test_a_wrong_pattern_is_told(tmp_path: Path, problem: str, fault: str) -> None:
    with pytest.raises(Faulty) as raised:
        load(tmp_path, problem)
    assert fault in str(raised.value)
    assert str(raised.value).startswith("problems: ")


def test_problems_are_an_array_of_tables(tmp_path: Path) -> None:
    own = (data_folder("sandbox") / "languages" / "lua.toml").read_text()
    (tmp_path / "lua.toml").write_text("problems = 'x'\n" + own.partition("[[problems]]")[0])
    with pytest.raises(Faulty, match="no array of tables"):
        read_language(tmp_path / "lua.toml")
