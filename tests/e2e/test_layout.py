"""Where the parts of the page stand: in two columns, in one, or one at a time."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect
from serving import Server

from e2e.editor import PHONE, Editor, new_context

WIDE, MIDDLE, SMALL = (1280, 800), (850, 900), (320, 640)

SHIFTS = """new Promise((told) => new PerformanceObserver((list) =>
    told(list.getEntries().reduce((sum, each) => sum + each.value, 0))
).observe({ type: "layout-shift", buffered: true }) ?? setTimeout(() => told(0), 100))"""
"""How much of the page has moved since it was opened. Nothing has if nobody tells."""

SCROLLERS = """[...document.querySelectorAll('body, body *')].filter((each) =>
    each.checkVisibility() && each.scrollHeight > each.clientHeight + 1 && each.clientHeight > 0 &&
    /auto|scroll/.test(getComputedStyle(each).overflowY)).map((each) => each.id || each.className)"""

WORDS = """(() => {
    const words = document.createRange()
    words.selectNodeContents(document.querySelector('.verdict .link'))
    const { top, bottom } = words.getBoundingClientRect()
    return [top, bottom]
})()"""
"""From where to where a verdict's words reach, in pixels from the top."""


@pytest.fixture
def at(browser: Browser, server: Server, size: tuple[int, int]) -> Iterator[Editor]:
    with new_context(browser, size) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        yield editor
        assert editor.complaints == []


def box(part: Locator) -> tuple[float, float, float, float]:
    found = part.bounding_box()
    assert found
    return found["x"], found["y"], found["width"], found["height"]


def drag(editor: Editor, bar: Locator, x: float, y: float) -> None:
    left, top, width, height = box(bar)
    mouse = editor.page.mouse
    mouse.move(left + width / 2, top + height / 2)
    mouse.down()
    mouse.move(left + x / 2, top + y / 2)
    mouse.move(left + x, top + y)
    mouse.up()


@pytest.mark.parametrize("size", [WIDE])
def test_columns_are_moved_by_pointer_and_keys_and_stay_so(at: Editor) -> None:
    split, code = at.part("split"), at.page.locator("#code")
    before = box(code)[2]
    expect(split).to_have_attribute("aria-orientation", "vertical")
    drag(at, split, -200, 0)
    dragged = box(code)[2]
    assert dragged == pytest.approx(before - 200, abs=3)
    split.press("ArrowRight")
    moved = box(code)[2]
    assert moved == pytest.approx(dragged + 0.02 * WIDE[0], abs=3)
    expect(split).to_have_attribute("aria-valuenow", str(round(100 * moved / WIDE[0])))
    at.page.reload()
    at.expect_ready()
    assert box(code)[2] == pytest.approx(moved, abs=1)
    assert at.page.evaluate(SHIFTS) < 0.001
    split.press("End")
    assert box(at.page.locator("#result"))[2] >= 300
    split.dblclick()
    assert box(code)[2] == pytest.approx(before, abs=1)


@pytest.mark.parametrize("size", [WIDE])
def test_the_drawer_is_closed_opened_and_moved_and_stays_so(at: Editor) -> None:
    drawer, stdin = at.part("drawer"), at.part("stdin")
    expect(stdin).to_be_visible()  # the example has input
    before = box(drawer)[3]
    drag(at, at.part("drawer-split"), 0, -100)
    assert box(drawer)[3] == pytest.approx(before + 100, abs=3)
    at.part("problems-tab").click()
    expect(at.part("problems")).to_have_text("No problems found.")
    expect(stdin).to_be_hidden()
    at.part("problems-tab").press("ArrowRight")
    expect(stdin).to_be_visible()
    at.part("drawer-toggle").click()
    expect(at.part("drawer-toggle")).to_have_attribute("aria-expanded", "false")
    assert box(drawer)[3] < 40
    at.page.reload()
    at.expect_ready()
    expect(stdin).to_be_hidden()
    assert at.page.evaluate(SHIFTS) < 0.001
    at.part("input-tab").click()
    assert box(drawer)[3] == pytest.approx(before + 100, abs=3)


@pytest.mark.parametrize("size", [MIDDLE])
def test_a_page_of_middle_width_is_one_column(at: Editor) -> None:
    editor, drawer, output = at.part("editor"), at.part("drawer"), at.part("output")
    tops = [box(part)[1] for part in (editor, drawer, output)]
    assert tops == sorted(tops)
    assert {round(box(part)[0]) for part in (editor, drawer, output)} == {0}
    expect(at.part("split")).to_have_attribute("aria-orientation", "horizontal")
    height = box(output)[3]
    at.part("split").press("Shift+ArrowUp")
    assert box(output)[3] > height + 50
    at.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    expect(at.part("split")).to_have_attribute("aria-orientation", "vertical")
    assert box(output)[0] > 300


@pytest.mark.parametrize("size", [PHONE, SMALL], ids=["phone", "small"])
def test_a_narrow_page_shows_one_part_at_a_time(at: Editor, size: tuple[int, int]) -> None:
    expect(at.part("editor")).to_be_visible()
    expect(at.part("output")).to_be_hidden()
    run = at.part("run")
    _, top, _, height = box(run)
    assert size[1] - 60 <= top <= top + height <= size[1]  # under the thumb
    at.run("for n in range(200): print('line', n)")
    expect(at.part("editor")).to_be_hidden()
    at.expect_verdict("good")
    expect(at.part("output")).to_be_visible()
    expect(at.page.locator("#to-output")).to_have_attribute("aria-selected", "true")
    at.page.wait_for_function(
        "() => (pane => pane.scrollTop > 0 && pane.scrollHeight - pane.scrollTop - pane.clientHeight < 2)"
        "(document.querySelector('#output'))"
    )
    assert at.page.evaluate(SCROLLERS) == ["output"]
    at.run("raise NotImplementedError('no')")
    at.expect_verdict("bad", "NotImplementedError in line 1")
    left, top, width, height = box(at.part("verdict"))
    copy = box(at.part("copy"))
    assert left + width <= copy[0] or top + height <= copy[1]
    at.run("class OneOfTheVeryLongNames(Exception): pass\nraise OneOfTheVeryLongNames('why')")
    at.expect_verdict("bad", "OneOfTheVeryLongNames in line 2")
    top, bottom = at.page.evaluate(WORDS)
    assert box(at.page.locator(".strip"))[1] <= top < bottom <= box(at.part("detail"))[1]
    at.show("input")
    assert box(at.part("stdin"))[3] > size[1] / 2
    at.show("code")
    expect(at.part("editor")).to_be_visible()
    for button in at.page.locator("button:visible, select:visible").all():
        assert min(box(button)[2:]) >= 44, button.inner_text()
    assert at.page.evaluate("document.documentElement.scrollWidth") == size[0]


@pytest.mark.parametrize("size", [WIDE])
def test_one_button_runs_and_stops_and_shows_the_clock(at: Editor) -> None:
    run = at.part("run")
    width = box(run)[2]
    at.allow_long_runs()
    at.give("some")
    at.write("import time; print('up', flush=True); time.sleep(600)")
    run.dblclick()  # the second click does not stop what the first one started
    at.expect_output("up")
    expect(run).to_have_attribute("data-state", "stop")
    expect(at.part("clock")).to_have_text(re.compile(r"^[1-9]\d*\.\d s$"))
    assert box(run)[2] == width
    run.click()
    at.expect_verdict("stopped")
    expect(run).to_have_attribute("data-state", "run")


@pytest.mark.parametrize("size", [WIDE])
def test_the_foot_begins_as_far_from_the_edge_as_it_ends(at: Editor) -> None:
    left, *_ = box(at.part("saved"))
    begins, _, width, _ = box(at.part("status"))
    assert left == pytest.approx(WIDE[0] - begins - width, abs=1)


@pytest.mark.parametrize("size", [WIDE])
def test_colours_follow_the_choice_else_the_system(at: Editor) -> None:
    root = at.page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    at.page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    at.part("theme").click()
    expect(root).to_have_attribute("data-theme", "light")
    at.page.reload()
    at.expect_ready()
    expect(root).to_have_attribute("data-theme", "light")
    at.part("theme").click()
    expect(root).to_have_attribute("data-theme", "dark")
    at.part("theme").click()
    at.page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-theme", "light")


def test_on_the_smallest_screen_a_headline_has_one_line_and_nothing_lies_on_it(
    browser: Browser, server: Server
) -> None:
    with new_context(browser, SMALL) as context:
        editor = Editor(context.new_page(), f"http://127.0.0.1:{server.port}/")
        editor.open()
        editor.allow_long_runs()
        for source in ("import nothing_here", "import time\nwhile True: time.sleep(9)"):
            editor.run(source)
            if "sleep" in source:
                editor.expect_verdict("busy", "Running")
                editor.stop()
                editor.expect_verdict("stopped")
            else:
                editor.expect_verdict("bad", "ModuleNotFoundError in line 1")
            lines = "each => each.clientHeight / parseFloat(getComputedStyle(each).lineHeight)"
            assert editor.part("verdict").evaluate(lines) < 1.5
            boxes = editor.page.locator(".strip > *:visible, .result > .bar button:visible")
            places = [box for each in boxes.all() if (box := each.bounding_box())]
            assert len(places) >= 5
            for n, one in enumerate(places):
                for other in places[:n]:
                    beside = (
                        one["x"] + one["width"] <= other["x"] + 0.5
                        or other["x"] + other["width"] <= one["x"] + 0.5
                        or one["y"] + one["height"] <= other["y"] + 0.5
                        or other["y"] + other["height"] <= one["y"] + 0.5
                    )
                    assert beside, (one, other)
            editor.show("code")
