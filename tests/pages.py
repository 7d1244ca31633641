"""The pages of docs/, as their tests read them."""

import json
import re
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parent.parent / "docs"


class Page:
    def __init__(self, name: str) -> None:
        self.text = (_DOCS / name).read_text()

    def blocks(self, kind: str) -> list[str]:
        return re.findall(rf"^```{kind}\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)

    def rows(self, head: str) -> list[list[str]]:
        """The cells of the table that begins so, as they stand."""
        table = self.text[self.text.index(f"\n| {head} |") + 1 :].split("\n\n")[0]
        return [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]

    def after(self, words: str) -> Any:
        """The first object that stands behind these words, read by `shape`."""
        _, found, rest = re.sub(r"\s+", " ", self.text).partition(words)
        assert found, f"the page does not say {words}"
        return shape(rest[rest.index("`{") + 1 : rest.index("}`") + 1])


def shape(written: str) -> Any:
    """An object in the notation of the pages: `"id"` alone stands for a field with any value, which is None
    here, and so does `…`."""
    named = re.sub(r'(?<=[{,])(\s*"\w+")(?=\s*[,}])', r"\1: null", written)
    whole = re.sub(r'"…"|\{…\}|\[…\]|…', "null", re.sub(r", …\]", "]", named))
    return json.loads(whole)
