"""docs/operating.md says what is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = "".join(path.read_text() for path in (ROOT / "occd").rglob("*.py"))


def test_each_line_of_the_log_that_the_docs_name_is_one_that_occd_writes() -> None:
    text = (ROOT / "docs/operating.md").read_text()
    table = text[text.index("| line | what it means") :]
    rows = table[: table.index("\n\n")].splitlines()[2:]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(named) > 20
    missing = [name for name in named if f'"{name.removesuffix("…").rstrip()}' not in SOURCES]
    assert missing == []
