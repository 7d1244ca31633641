"""The words in braces of a language's commands."""

import re
from collections.abc import Callable, Mapping

_LONGEST = 4096
_WORD = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}", re.ASCII)


def replace_words(text: str, value: Callable[[str], str]) -> str:
    """The text with the value of each `{word}`. `{{word}}` becomes `{word}`, and other braces stay as they
    are."""
    return _WORD.sub(
        lambda found: value(found[2]) if found[2] else "{" + found[1] + "}",
        text,
    )


def words_of(text: str) -> set[str]:
    return set(words_in(text))


def words_in(text: str) -> list[str]:
    """Each word as often as it stands there."""
    return [found[2] for found in _WORD.finditer(text) if found[2]]


def resolve(own: Mapping[str, str]) -> dict[str, str]:
    """A language's own words, without own words in their values.

    Raises ValueError for words that need each other, and for a long value.
    """
    resolved: dict[str, str] = {}

    def resolve_one(word: str, within: tuple[str, ...]) -> None:
        if word in within:
            circle = " → ".join(f"{{{each}}}" for each in (*within[within.index(word) :], word))
            raise ValueError(f"words: {circle} never ends")
        for needed in words_of(own[word]) & own.keys() - resolved.keys():
            resolve_one(needed, (*within, word))
        resolved[word] = put_in(own[word], resolved)
        if len(resolved[word]) > _LONGEST:
            raise ValueError(f"words: {{{word}}} has more than {_LONGEST} characters")

    for word in own:
        resolve_one(word, ())
    return resolved


def put_in(text: str, own: Mapping[str, str]) -> str:
    """The text with the values of own words; all other words stay."""
    return _WORD.sub(lambda found: own.get(found[2] or "", found[0]), text)
