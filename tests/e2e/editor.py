"""The editor's page, as a person uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
)

from e2e.failed import take_pictures

CHROMIUM = Path("/usr/bin/chromium-headless-shell")
"""Chromium without a window: a page takes half of the processor time that it takes in the whole browser."""
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, LAPTOP, PHONE = (1440, 900), (1280, 800), (390, 844)
BOTH = pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
"""A test with the fixture `editor` runs at both sizes."""
PATIENCE_MS = 30_000
ASKS = """\
name = input("name? ")
print("hello", name)
while True:
    try:
        print("got", input())
    except EOFError:
        break
print("bye")
"""

KEYS = ("Enter", "Backspace", "Tab", "Escape", "ArrowUp", "ArrowDown", "F6", "Shift+F6")
SHOWN = """[...document.querySelectorAll('.xterm-rows > div')]
    .map(row => row.textContent.trimEnd())
    .reduceRight((rows, row) => rows.length || row ? [row, ...rows] : rows, [])"""
"""The lines of the terminal that are in sight, up to the last that is not blank."""


@dataclass
class Editor:
    page: Page
    home: str
    complaints: list[str] = field(default_factory=list)
    input: str = "some input\n"

    def open(self) -> None:
        """The page, when a program can be run; all that goes wrong from now on is noted."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)
        self.page.goto(self.home)
        self.expect_ready()

    def _heard(self, said: ConsoleMessage) -> None:
        # Chromium's own editing wraps what is inserted in a styled span, and the policy tells.
        by_nobody = (
            said.text.startswith("Applying inline style") and said.location["lineNumber"] == 0
        )
        # The terminal tells when the machine was so busy that its idle work took longer than a frame.
        busy = said.text.startswith("task queue exceeded allotted deadline")
        if said.type in ("error", "warning") and not by_nobody and not busy:
            self.complaints.append(said.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.home):
            self.complaints.append(request.url)

    def expect_ready(self) -> None:
        expect(self.part("language")).to_be_enabled()

    def part(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def choose(self, language: str) -> None:
        """The language with this id, as a person does: the button, a search, and the line in the list."""
        self.part("language").click()
        self.languages.get_by_role("combobox").fill(language)
        self.languages.locator(f"[role=option][data-id='{language}']").click()
        self.expect_language(language)

    @property
    def languages(self) -> Locator:
        """The list of languages, where it is open."""
        return self.page.get_by_role("dialog", name="Language")

    def expect_language(self, id: str) -> None:
        expect(self.part("language")).to_have_attribute("value", id)

    def write(self, source: str) -> None:
        """As a person replaces it: `fill` selects behind the back of CodeMirror, which may render just then
        and put its own selection there again."""
        self.show("code")
        self.page.locator(".cm-content").focus()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)
        self.expect_program(source)

    def show(self, pane: str) -> None:
        """Bring a part into sight: code, output, input or problems. A narrow page shows one at a time."""
        if self.part("switch").is_visible():
            self.page.locator(f"#to-{pane}").click()
            return
        panel = {"input": "stdin", "problems": "problems"}.get(pane)
        if panel is not None and not self.part(panel).is_visible():
            self.part(f"{pane}-tab").click()

    def give(self, text: str) -> None:
        """Write it under Input."""
        self.show("input")
        self.part("stdin").fill(text)
        self.input = text

    def allow_long_runs(self) -> None:
        """Let a program of this language take two minutes, of which a busy machine leaves a test little. By
        itself a program without a terminal has ten seconds."""
        self.part("options").click()
        self.part("options-cpu_time").fill("60")
        self.part("options-close").click()

    def stop(self) -> None:
        expect(self.part("run")).to_have_attribute("data-state", "stop")
        self.part("run").click()

    def expect_idle(self) -> None:
        """No program runs."""
        expect(self.part("run")).to_have_attribute("data-state", "run")

    def run(self, source: str) -> None:
        """With the input that was given last, or some: then what is written comes through pipes."""
        if self.part("stdin").input_value() != self.input:
            self.give(self.input)
        self.write(source)
        self.part("run").click()

    def expect_drawn(self) -> None:
        """What is shown is of this run. Until there is something to tell of it, the run before is shown."""
        expect(self.page.locator("#result")).to_have_attribute("aria-busy", "false")

    def expect_verdict(self, tone: str, text: str = "") -> None:
        self.expect_drawn()
        expect(self.part("verdict")).to_have_attribute("data-tone", tone)
        expect(self.part("verdict")).to_contain_text(text)

    def expect_program(self, source: str) -> None:
        expect(self.page.locator(".cm-line")).to_have_text(source.split("\n"))

    def expect_output(self, text: str) -> None:
        self.expect_drawn()
        expect(self.part("output")).to_contain_text(text)

    def expect_whole_output(self, text: str) -> None:
        """To the last byte; what is shown may come a frame after the verdict."""
        self.expect_drawn()
        expect(self.part("output")).to_have_js_property("textContent", text)

    def output(self) -> str:
        return self.part("output").text_content() or ""

    def talk(self, source: str) -> None:
        """Run it at a terminal, as a program is that gets no input."""
        self.give("")
        self.run(source)

    def type(self, *keys: str) -> None:
        """Into the terminal: texts, and keys by their names, such as Enter or Control+c."""
        self.page.locator(".xterm").click()
        for each in keys:
            if each in KEYS or each.startswith("Control+"):
                self.page.keyboard.press(each)
            else:
                self.page.keyboard.type(each)

    def expect_terminal(self, *lines: str) -> None:
        """What it shows, without blank ends."""
        self.expect_drawn()
        expect(self.page.locator(".xterm-rows")).to_be_visible()
        self.page.wait_for_function(
            f"wanted => {SHOWN}.join('\\n') === wanted", arg="\n".join(lines), timeout=PATIENCE_MS
        )

    def wait_terminal(self, text: str) -> list[str]:
        """Wait until it shows this text. The lines that it shows then."""
        self.expect_drawn()
        shown = f"wanted => {{ const lines = {SHOWN}; return lines.join('\\n').includes(wanted) && lines }}"
        lines: list[str] = self.page.wait_for_function(
            shown, arg=text, timeout=PATIENCE_MS
        ).json_value()
        return lines


@contextmanager
def new_context(
    browser: Browser, size: tuple[int, int], dark: bool = False, forced: bool = False
) -> Iterator[BrowserContext]:
    """`forced`: the system chooses the colours. A test that fails within leaves pictures."""
    width, height = size
    with browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        forced_colors="active" if forced else "none",
        has_touch=size == PHONE,
    ) as context:
        try:
            yield context
        except (Exception, pytest.fail.Exception):
            take_pictures(context)
            raise
