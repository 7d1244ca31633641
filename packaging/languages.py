"""Writes the part of docs/languages.md that the languages' files tell: `make docs`."""

import shlex
from pathlib import Path

from occd.languages import Language
from occd.languages.fields import SUPPORT
from occd.languages.installing import sizes
from occd.languages.loading import load_languages
from occd.languages.packages import Packages

DOCS = Path(__file__).parent.parent / "docs/languages.md"
SIZE = sizes()
_USUAL = 12
"""Debian's release whose packages most languages have."""
BEGIN = "<!-- from here on: make docs -->"


def text() -> str:
    """The whole page."""
    own = DOCS.read_text().partition(BEGIN)[0]
    return f"{own}{BEGIN}\n\n{chr(10).join(_pages())}"


def _pages() -> list[str]:
    languages = load_languages().values()
    lines = ["## All languages", ""]
    for support in SUPPORT:
        those = [each for each in languages if each.support == support]
        if those:
            lines += [f"### {support.capitalize()}: {len(those)}", ""]
            for each in those:
                lines += [*_entry(each), ""]
    return lines


def _entry(language: Language) -> list[str]:
    title = f"[{language.name}]({language.home})"
    of = f", {language.implementation} of `{language.family}`" if language.family else ""
    lines = [f"**{title}** (`{language.id}`{of}). {language.about}", ""]
    since = f" {language.debian}" if language.debian > _USUAL else ""
    lines.append(f"- Packages: {_named(language.install, since)}")
    if language.id in SIZE:
        lines.append(f"- Takes: {SIZE[language.id]}")
    lines += [f"- Packages of {name}: {_named(each)}" for name, each in language.versions.items()]
    lines += [f"- Compile: `{_command(step)}`" for step in language.compile]
    lines.append(f"- Run: `{_command(language.run)}`")
    if limits := _changed(language):
        lines.append(f"- Limits: {limits}")
    if language.stdin != "input":
        lines.append("- Programs have no input.")
    lines += [f"- {quirk}" for quirk in language.quirks]
    return lines


def _named(packages: Packages, since: str = "") -> str:
    tools = {f"Debian{since}": packages.apt, "PyPI": packages.pip, "npm": packages.npm}
    return "; ".join(f"{', '.join(names)} of {tool}" for tool, names in tools.items() if names)


def _command(argv: tuple[str, ...]) -> str:
    return " ".join(each if "{" in each else shlex.quote(each) for each in argv).replace("`", "'")


def _changed(language: Language) -> str:
    usual = type(language.limits)()
    return ", ".join(
        f"{name} {value}"
        for name in type(usual).__slots__
        if (value := getattr(language.limits, name)) != getattr(usual, name)
    )


if __name__ == "__main__":
    DOCS.write_text(text())
