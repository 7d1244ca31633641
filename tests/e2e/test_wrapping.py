"""Long lines of the output and of the compiler go on in the next row, or are reached by scrolling."""

from playwright.sync_api import Locator, expect

from e2e.editor import BOTH, Editor

LONG = "import sys; print('x' * 500); print('y' * 500, file=sys.stderr)"
WRONG_C = f"int main(void) {{ return {' + '.join(['1'] * 200)} + nix; }}"


def is_wider(text: Locator) -> bool:
    """A part of it is out of sight at its side."""
    wider: bool = text.evaluate("each => each.scrollWidth > each.clientWidth")
    return wider


@BOTH
def test_long_lines_of_the_output_are_wrapped_or_not_and_that_is_kept(editor: Editor) -> None:
    output, switch = editor.part("output"), editor.part("wrap")
    editor.run(LONG)
    editor.expect_verdict("good")
    expect(switch).to_have_accessible_name("Wrap long lines")
    expect(switch).to_have_attribute("aria-pressed", "true")
    assert not is_wider(output)
    switch.focus()
    editor.page.keyboard.press("Enter")
    expect(switch).to_have_attribute("aria-pressed", "false")
    assert is_wider(output)
    line = "each => each.offsetHeight / parseFloat(getComputedStyle(each).lineHeight)"
    assert round(output.locator(".stdout").evaluate(line)) == 1
    editor.page.reload()
    editor.show("output")
    editor.expect_verdict("good")
    expect(switch).to_have_attribute("aria-pressed", "false")
    expect(output).to_contain_text("yyy")
    assert is_wider(output)
    switch.click()
    assert not is_wider(output)


@BOTH
def test_the_compilers_lines_are_wrapped_by_a_switch_of_their_own(editor: Editor) -> None:
    editor.choose("c")
    editor.run(WRONG_C)
    editor.expect_verdict("bad")
    text, switch = editor.part("compile-output"), editor.part("compile-wrap")
    expect(editor.part("wrap")).to_be_hidden()
    expect(switch).to_have_accessible_name("Wrap long lines of the compiler")
    expect(switch).to_have_attribute("aria-pressed", "false")
    assert is_wider(text)
    switch.focus()
    editor.page.keyboard.press("Space")
    expect(switch).to_have_attribute("aria-pressed", "true")
    assert not is_wider(text)
    editor.page.reload()
    editor.show("output")
    editor.expect_verdict("bad")
    expect(switch).to_have_attribute("aria-pressed", "true")
    assert not is_wider(text)


def test_the_palette_has_the_switch(editor: Editor) -> None:
    editor.page.keyboard.press("F1")
    expect(editor.page.get_by_role("dialog", name="Commands")).to_be_visible()
    editor.page.keyboard.type("wrap long")
    editor.page.keyboard.press("Enter")
    expect(editor.part("wrap")).to_have_attribute("aria-pressed", "false")


@BOTH
def test_what_is_stderr_is_said_where_one_looks(editor: Editor) -> None:
    """The label of a block that is wider than the pane stays in sight."""
    output = editor.part("output")
    editor.part("wrap").evaluate("each => each.click()")  # a phone shows the code
    editor.run(LONG)
    editor.expect_verdict("good")
    assert is_wider(output)
    block = output.locator(".stderr")
    for left in (0, 700):
        output.evaluate("(each, left) => { each.scrollLeft = left }", left)
        with_label = output.screenshot()
        block.evaluate(
            "each => { each.dataset.kept = each.dataset.label; delete each.dataset.label }"
        )
        assert output.screenshot() != with_label
        block.evaluate("each => { each.dataset.label = each.dataset.kept }")
        assert output.screenshot() == with_label
