"""The list of languages: search, groups, families, keys and touch; and a language without input."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Route, expect
from serving import Server

from e2e.editor import BOTH, DESK, Editor, new_context

LISTS = re.compile("/api/v1/languages")
"""Where the page gets the languages, in brief and as a whole."""

WHOLE = re.compile("/api/v1/languages$")

FOUND = [
    ("C++", "cpp"),
    ("cpp", "cpp"),
    ("golang", "go"),
    ("clang c++", "clang-cpp"),
    (".py", "python"),
    ("RUBY", "ruby"),
    ("c", "c"),
    ("java", "java"),
]
"""Searches by name, id, alias, implementation and suffix, and the language that each finds first."""


def answering(context: BrowserContext, change: Any) -> None:
    """The server's languages, by id, in the answer to the page, as `change` leaves them."""

    def answer(route: Route) -> None:
        real = route.fetch()
        body = real.json()
        languages = {each["id"]: each for each in body["languages"]}
        change(languages)
        route.fulfill(response=real, json=body | {"languages": list(languages.values())})

    context.route(LISTS, answer)


@pytest.fixture
def fresh(browser: Browser, server: Server) -> Iterator[tuple[BrowserContext, Editor]]:
    with new_context(browser, DESK) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        yield context, editor
        assert editor.complaints == []


def groups(editor: Editor) -> dict[str, list[str]]:
    """The ids of the languages by the headings above them."""
    found: dict[str, list[str]] = editor.languages.evaluate(
        """dialog => Object.fromEntries([...dialog.querySelectorAll('[role=group]')].map(group => [
            document.getElementById(group.getAttribute('aria-labelledby')).textContent,
            [...group.querySelectorAll('[role=option]')].map(each => each.dataset.id)]))"""
    )
    return found


@BOTH
def test_a_language_is_found_by_all_that_it_is_called(editor: Editor) -> None:
    editor.part("language").click()
    field = editor.languages.get_by_role("combobox", name="Find a language")
    here = set(
        editor.languages.get_by_role("option").evaluate_all("all => all.map(e => e.dataset.id)")
    )
    for looked_for, id in FOUND:
        if id not in here:
            continue
        field.fill(looked_for)
        first = editor.languages.get_by_role("option").first
        expect(first).to_have_attribute("data-id", id)
        expect(first).to_have_attribute("aria-selected", "true")
    field.fill("zzz")
    expect(editor.languages).to_contain_text("Nothing found.")
    expect(editor.languages.get_by_role("option")).to_have_count(0)


@BOTH
def test_a_language_is_chosen_by_keys_alone(editor: Editor) -> None:
    keyboard = editor.page.keyboard
    button = editor.part("language")
    button.focus()
    keyboard.press("Enter")
    selected = editor.languages.get_by_role("option", selected=True)
    expect(selected).to_have_attribute("data-id", "python")
    keyboard.type("c")
    expect(selected).to_have_attribute("data-id", "c")
    keyboard.press("ArrowDown")
    expect(selected).not_to_have_attribute("data-id", "c")
    keyboard.press("ArrowUp")
    keyboard.press("Enter")
    expect(editor.languages).to_have_count(0)
    editor.expect_language("c")
    expect(button).to_be_focused()
    keyboard.press("ArrowDown")
    expect(selected).to_have_attribute("data-id", "c")
    keyboard.press("Escape")
    expect(editor.languages).to_have_count(0)
    editor.expect_language("c")
    expect(button).to_be_focused()


@BOTH
def test_the_list_lies_within_the_page_and_a_click_beside_it_closes_it(editor: Editor) -> None:
    editor.part("language").click()
    expect(editor.languages).to_be_visible()
    box, page = editor.languages.bounding_box(), editor.page.viewport_size
    assert box
    assert page
    assert min(box["x"], box["y"]) >= 0
    assert box["x"] + box["width"] <= page["width"]
    assert box["y"] + box["height"] <= page["height"]
    touch = 44 if editor.part("switch").is_visible() else 30
    heights = editor.languages.get_by_role("option").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().height)"
    )
    assert min(heights) >= touch
    editor.page.mouse.click(page["width"] - 2, page["height"] - 2)
    expect(editor.languages).to_have_count(0)


def test_by_touch_no_keyboard_comes_up(browser: Browser, server: Server) -> None:
    with browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    ) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.part("language").tap()
        expect(editor.languages.get_by_role("listbox")).to_be_focused()
        editor.languages.locator("[role=option][data-id='go']").tap()
        editor.expect_language("go")


def test_the_palette_has_the_list(editor: Editor) -> None:
    editor.page.keyboard.press("F1")
    expect(editor.page.get_by_role("dialog", name="Commands")).to_be_visible()
    editor.page.keyboard.type("choose")
    editor.page.keyboard.press("Enter")
    expect(editor.languages.get_by_role("combobox")).to_be_focused()
    editor.page.keyboard.type("go")
    editor.page.keyboard.press("Enter")
    editor.expect_language("go")


def test_languages_stand_in_groups_and_families(fresh: tuple[BrowserContext, Editor]) -> None:
    context, editor = fresh

    def change(languages: dict[str, Any]) -> None:
        kept = {id: languages[id] for id in ("ruby", "python", "c", "bash")}
        c, python = kept["c"], kept["python"]
        kept["clang-c"] = {**c, "id": "clang-c", "name": "C (Clang)", "implementation": "Clang"}
        kept["clang-c"]["support"] = "popular"
        kept["pypy"] = {**python, "id": "pypy", "name": "Python (PyPy)", "support": "more"}
        kept["pypy"] |= {"family": "python", "implementation": "PyPy"}
        kept["ada"] = {**c, "id": "ada", "name": "Ada", "support": "more", "family": None}
        kept["b"] = {**c, "id": "b", "name": "B", "support": "tried", "family": None}
        languages.clear()
        languages.update(kept)

    answering(context, change)
    editor.open()
    editor.part("language").click()
    core = ["bash", "c", "clang-c", "python", "pypy", "ruby"]
    rest = {"More": ["ada"], "Tried only: no test proves them": ["b"]}
    assert groups(editor) == {"Core": core} | rest
    list_ = editor.languages.get_by_role("listbox")
    expect(list_.locator(".under")).to_contain_text(["C (Clang)", "Python (PyPy)"])
    expect(list_.get_by_role("option", name="B tried only")).to_be_visible()
    editor.languages.get_by_role("combobox").fill("clang")
    expect(list_.get_by_role("option")).to_have_count(1)
    editor.page.keyboard.press("Escape")
    editor.choose("ada")
    editor.choose("ruby")
    editor.page.reload()
    editor.expect_ready()
    editor.part("language").click()
    recent = {"Recently used": ["ruby", "ada", "python"]}
    assert groups(editor) == recent | {"Core": core} | rest
    # Each is found once, and what was used before the others.
    editor.languages.get_by_role("combobox").fill("python")
    expect(list_.get_by_role("option")).to_contain_text(["Python", "Python (PyPy)"])


def test_a_program_runs_before_the_languages_are_there_as_a_whole(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    context, editor = fresh
    held: list[Route] = []
    context.route(WHOLE, lambda route: held.append(route))
    editor.open()
    editor.run("1 / 0")
    editor.expect_verdict("bad", "ZeroDivisionError in line 1")
    editor.write("mine")
    # Nothing can be chosen yet.
    file: FilePayload = {"name": "a.rb", "mimeType": "text/plain", "buffer": b"puts 1"}
    editor.part("file-picker").set_input_files(file)
    expect(editor.part("done")).to_contain_text("Opening")
    editor.part("stdin").focus()
    assert len(held) == 1
    held.pop().continue_()
    editor.expect_language("ruby")
    editor.expect_program("puts 1")
    editor.part("done").get_by_role("button", name="Undo").click()
    editor.expect_language("python")
    editor.expect_program("mine")


def test_the_languages_as_a_whole_disturb_nothing(fresh: tuple[BrowserContext, Editor]) -> None:
    context, editor = fresh
    held: list[Route] = []
    context.route(WHOLE, lambda route: held.append(route))
    editor.open()
    editor.run("import time\nprint('runs', flush=True)\ntime.sleep(60)")
    editor.expect_output("runs")
    editor.part("language").click()
    editor.part("stdin").focus()
    editor.page.keyboard.type("more")
    expect(editor.languages).to_have_count(0)
    held.pop().continue_()
    expect(editor.languages).to_be_visible()
    editor.page.keyboard.press("Escape")
    expect(editor.part("stdin")).to_be_focused()
    expect(editor.part("stdin")).to_have_value(re.compile("more"))
    expect(editor.part("run")).to_have_attribute("data-state", "stop")
    editor.part("run").click()
    editor.expect_verdict("stopped")


@pytest.mark.parametrize("asked", ["by the address", "by what was chosen last"])
def test_a_language_that_is_not_a_core_one_is_shown_with_its_example(
    fresh: tuple[BrowserContext, Editor], asked: str
) -> None:
    context, editor = fresh

    def change(languages: dict[str, Any]) -> None:
        ada = languages["ada"] = {**languages["c"], "id": "ada", "name": "Ada", "aliases": []}
        ada |= {"support": "more", "family": None, "example": "of Ada"}
        if "about" not in languages["c"]:
            for name in ("hello", "example", "example_stdin", "problems"):
                del ada[name]

    answering(context, change)
    editor.open()
    if asked == "by the address":
        editor.page.goto(f"{editor.home}?language=ada")
    else:
        editor.choose("ada")
        editor.page.reload()
    editor.expect_language("ada")
    editor.expect_program("of Ada")


def test_a_program_of_a_language_without_input_has_none(
    fresh: tuple[BrowserContext, Editor],
) -> None:
    context, editor = fresh

    def change(languages: dict[str, Any]) -> None:
        languages["bash"]["flags"]["reads_stdin"] = False

    answering(context, change)
    editor.open()
    editor.give("mine")
    editor.choose("bash")
    editor.show("input")
    stdin = editor.part("stdin")
    expect(stdin).to_have_attribute("readonly", "")
    expect(stdin).to_have_value("")
    expect(stdin).to_have_attribute("placeholder", "A program in Bash reads no input.")
    expect(editor.page.locator("#input-state")).to_have_text("none")
    editor.write("test -t 0 || test -t 1 || echo no terminal; cat; echo the end")
    editor.page.keyboard.press("Control+Enter")
    editor.expect_verdict("good")
    editor.expect_whole_output("no terminal\nthe end\n")
    editor.choose("python")
    expect(stdin).to_have_value("mine")
    expect(stdin).to_be_editable()
