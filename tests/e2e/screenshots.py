"""`make screenshots`: the pictures of the README and the docs.

With a folder, all scenes at both widths and in both themes go there, to be looked at.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright
from serving import serving

from e2e.editor import ARGS, CHROMIUM, PHONE, Editor

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
SIZES = {"wide": (1280, 720), "narrow": PHONE}
THEMES = ("light", "dark")
MOST_KB = 150

_HELLO = """\
import sys

counts: dict[str, int] = {}
for word in sys.stdin.read().split():
    counts[word] = counts.get(word, 0) + 1

for word, count in sorted(counts.items(), key=lambda pair: -pair[1]):
    print(f"{word:8} {'█' * count} {count}")
"""
_SEA = "the sea the sky\nthe ship on the sea\nand the sky over the ship\n"
_QUIZ = """\
import random

random.seed(7)
secret = random.randint(1, 100)
print("\\x1b[1mI think of a number from 1 to 100.\\x1b[0m")
while (guess := int(input("Your guess: "))) != secret:
    print("\\x1b[34mHigher!\\x1b[0m" if guess < secret else "\\x1b[35mLower!\\x1b[0m")
print("\\x1b[32mThat is it.\\x1b[0m")
"""
_MEAN = """\
#include <stdio.h>

double mean(const int *values, int count) {
    int sum = 0;
    for (int i = 0; i < count; i++)
        sum += values[i]
    return (double)sum / count;
}

int main(void) {
    int marks[] = {3, 1, 2};
    printf("%f\\n", mean(marks, 3, 4));
}
"""
_PICTURE = """\
import struct, zlib

WIDE, HIGH = 480, 320

def depth(c: complex) -> int:
    z = 0j
    for n in range(48):
        z = z * z + c
        if abs(z) > 2:
            return n
    return 48

def chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check

rows = b""
for y in range(HIGH):
    rows += b"\\0" + bytes(
        depth(complex(x / 160 - 2.1, y / 150 - 1.07)) for x in range(WIDE)
    )
head = struct.pack(">IIBBBBB", WIDE, HIGH, 8, 3, 0, 0, 0)
colours = b"".join(bytes([min(255, 9 * n), 5 * n, 60 + 3 * n]) for n in range(48))
with open("mandelbrot.png", "wb") as file:
    file.write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head))
    file.write(chunk(b"PLTE", colours + b"\\0\\0\\0"))
    file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
print("The picture is below.")
"""


def _input(editor: Editor) -> None:
    editor.give(_SEA)
    editor.run(_HELLO)
    editor.expect_verdict("good")
    editor.expect_output("over")


def _terminal(editor: Editor) -> None:
    editor.talk(_QUIZ)
    for guess in ("50", "30", "40"):
        editor.wait_terminal("guess:")
        editor.type(guess, "Enter")
    editor.page.wait_for_timeout(300)


def _problems(editor: Editor) -> None:
    editor.choose("c")
    editor.run(_MEAN)
    editor.expect_verdict("bad")
    editor.show("problems")
    expect(editor.page.locator("[data-testid=problem]").first).to_be_visible()


def _options(editor: Editor) -> None:
    editor.choose("cpp")
    editor.part("options").click()


def _picture(editor: Editor) -> None:
    editor.give("")
    editor.run(_PICTURE)
    editor.expect_verdict("good")
    expect(editor.part("pictures").locator("img")).to_be_visible()


_Scene = Callable[[Editor], None]
SCENES: dict[str, _Scene] = {
    "input": _input,
    "terminal": _terminal,
    "problems": _problems,
    "options": _options,
    "picture": _picture,
}
SHOWN = {"problems-wide-light", "terminal-wide-dark", "terminal-narrow-dark"}


def take(browser: Browser, url: str, folder: Path, wanted: Callable[[str], bool]) -> None:
    for size, (width, height) in SIZES.items():
        for theme in THEMES:
            for scene, play in SCENES.items():
                name = f"{scene}-{size}-{theme}"
                if not wanted(name):
                    continue
                with browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if theme == "dark" else "light",
                    has_touch=size == "narrow",
                    device_scale_factor=2 if size == "narrow" else 1,
                ) as context:
                    editor = Editor(context.new_page(), url)
                    editor.open()
                    play(editor)
                    editor.page.evaluate("document.fonts.ready")
                    editor.page.wait_for_timeout(400)  # until what moves has come to rest
                    path = folder / f"{name}.png"
                    editor.page.screenshot(path=path, animations="disabled", caret="hide")
                    size_kb = path.stat().st_size / 1000
                    print(f"{path} {size_kb:.0f} kB")
                    assert size_kb <= MOST_KB or name not in SHOWN, f"{path} is too large"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with (
        tempfile.TemporaryDirectory() as data,
        serving(Path(data) / "data") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        url = f"http://127.0.0.1:{server.port}/"
        take(browser, url, folder, lambda name: folder != IMAGES or name in SHOWN)
        browser.close()


if __name__ == "__main__":
    main()
