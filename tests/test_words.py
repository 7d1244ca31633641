"""Every word that a person reads in the page is in templates/words.json."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape
from quart_trio import QuartTrio

from occd.web.pages import Pages, page_routes

ROOT = Path(__file__).parent.parent
WORDS: dict[str, str] = json.loads((ROOT / "templates/words.json").read_text())
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))
SOURCES = sorted((ROOT / "web/src").glob("*.ts"))
STYLES = sorted((ROOT / "web/src").glob("**/*.css"))

READ = {"title", "alt", "placeholder", "aria-label", "aria-description", "label"}
"""The attributes that a person reads or hears."""
SHOWN = r"(?:textContent|innerText|title|placeholder|alt|label|ariaLabel) = |'aria-label'(?:: |, )"
STRING = r"'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`"
SENTENCE = re.compile(r"[A-Z][a-z]+ [a-zA-Z].*|[A-Za-z]+ .*[.!?…]|[A-Z][a-z]+…")
NOT_READ = re.compile(
    r"^import .*$|console\.\w+\(.*$|startsWith\(.*$|new Error\(.*$|(?<!:)//.*$|/\*.*?\*/|^ \* .*$",
    re.M,
)


class Literals(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_script = False
        self.feed(re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", page))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        meta = dict(attrs).get("name") == "description"
        self.found += [
            value
            for name, value in attrs
            if value and (name in READ or (meta and name == "content")) and has_word(value)
        ]

    def handle_data(self, data: str) -> None:
        if has_word(data):
            self.found.append(data.strip())


def has_word(text: str) -> bool:
    return re.search(r"[^\W\d_]{2,}", text) is not None


def literals(source: str) -> Iterator[str]:
    """The texts of a module that look as if a person was to read them."""
    source = re.sub(r"say\(`[^`]*`", "say(", NOT_READ.sub("", source))
    for found in re.finditer(STRING, source):
        text = found[0][1:-1]
        shown = re.search(f"(?:{SHOWN})$", source[: found.start()])
        if SENTENCE.fullmatch(text) or (shown and has_word(re.sub(r"\$\{.*?\}", "", text))):
            yield text


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_words_of_its_own(path: Path) -> None:
    assert Literals(path.read_text()).found == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_of_the_page_has_no_words_of_its_own(path: Path) -> None:
    assert list(literals(path.read_text())) == []


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_a_style_has_no_words_of_its_own(path: Path) -> None:
    assert re.findall(r"content: \"[^\"]*[a-zA-Z]{2}[^\"]*\"", path.read_text()) == []


def test_what_looks_like_words_is_found() -> None:
    assert Literals('<p title="Two">{{ words.a }}</p>One <b>{{ x }}</b>').found == ["Two", "One"]
    source = (
        "a.textContent = 'Copied'\nsay('copied'); tell('busy', 'Sending…'); b = 'The end is near'"
    )
    assert list(literals(source)) == ["Copied", "Sending…", "The end is near"]
    assert list(literals("e.textContent = `${a}: ${b}`; key('Enter'); // It's 'Not so'")) == []


def test_no_word_is_left_over() -> None:
    """A template or a module uses each phrase, or its kind where its name is put together."""
    used = "".join(path.read_text() for path in TEMPLATES + SOURCES)
    named = set(re.findall(r"words\.(\w+)|'(\w+)'", used))
    names = {name for pair in named for name in pair}
    kinds = tuple(re.findall(r"(?:(?:say|all)Of\('|say\(`)(\w+?)_?(?:'|\$\{)", used))
    stems = {key: re.sub(r"_(one|other)$", "", key) for key in WORDS}
    left = [
        key
        for key, stem in stems.items()
        if not {key, stem} & names and not stem.startswith(tuple(f"{kind}_" for kind in kinds))
    ]
    assert left == []


async def test_the_page_has_the_words_that_its_template_asks_for() -> None:
    app = QuartTrio("occd")
    app.register_blueprint(page_routes(Pages(), sign_in="/sign-in", accounts=True))
    page = await (await app.test_client().get("/")).get_data(as_text=True)
    asked = re.findall(r"words\.(\w+)", (ROOT / "templates/index.html").read_text())
    assert [name for name in asked if str(escape(WORDS[name])) not in page] == []


def test_a_template_asks_for_words_that_there_are() -> None:
    asked = {name for path in TEMPLATES for name in re.findall(r"words\.(\w+)", path.read_text())}
    assert asked <= set(WORDS)
