"""docs/operating.md says what is so."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = [path.read_text() for path in (ROOT / "occd").rglob("*.py")]
WARNS = {"warning", "error", "Trouble", "_complain"}


def named() -> list[str]:
    """The beginnings of lines of the log that the docs explain."""
    text = (ROOT / "docs/operating.md").read_text()
    table = text[text.index("| line | what it means") :]
    rows = table[: table.index("\n\n")].splitlines()[2:]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    return [name.removesuffix("…").rstrip() for name in names]


def written() -> set[str]:
    """The lines that warn an operator. A line with a traceback is explained by what the docs say of all of
    them."""
    found = set()
    for source in SOURCES:
        for call in ast.walk(ast.parse(source)):
            if isinstance(call, ast.Call) and call.args and _name(call.func) in WARNS:
                traceback = any(each.arg == "exc_info" for each in call.keywords)
                line = call.args[0]
                if isinstance(line, ast.JoinedStr):
                    line = line.values[0]
                if isinstance(line, ast.Constant) and isinstance(line.value, str) and not traceback:
                    found.add(line.value)
    return found


def _name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def test_each_line_of_the_log_that_the_docs_name_is_one_that_occd_writes() -> None:
    assert len(named()) > 20
    missing = [name for name in named() if not any(f'"{name}' in each for each in SOURCES)]
    assert missing == []


def test_each_line_that_warns_is_named_in_the_docs() -> None:
    assert len(written()) > 40
    beginnings = tuple(named())
    assert [line for line in sorted(written()) if not line.startswith(beginnings)] == []
