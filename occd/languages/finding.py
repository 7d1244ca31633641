"""Finds a language by its name, or by the suffix of a file."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from occd.languages import Language
from occd.languages.fields import SUPPORT

_COMPARED = 40
"""Characters of a name that is compared: anybody sends it, and everybody waits."""
_MOST = 3
_NAMES_OF_ONE = 5


def find(languages: Mapping[str, Language], name: str) -> Language | None:
    """The language that has this id, name or alias, in upper or lower case."""
    if name in languages:
        return languages[name]
    return next((each for each in languages.values() if name.lower() in names_of(each)), None)


def names_of(language: Language) -> set[str]:
    return {name.lower() for name in (language.id, language.name, *language.aliases)}


def unknown(languages: Mapping[str, Language], name: str) -> str:
    """Words for a name that no language has, with the ids of at most three that it may stand for."""
    ids = {each: language.id for language in languages.values() for each in names_of(language)}
    like = get_close_matches(name.lower()[:_COMPARED], ids, _MOST * _NAMES_OF_ONE)
    meant = list(dict.fromkeys(ids[each] for each in like))[:_MOST]
    return f"{name!r} is unknown" + (f"; near it are {', '.join(meant)}" if meant else "")


def by_support(languages: Iterable[Language]) -> list[Language]:
    """Those first that people ask for most."""
    return sorted(languages, key=lambda each: SUPPORT.index(each.support))


def for_file(languages: Iterable[Language], path: Path) -> Language | None:
    """The language that a file's suffix belongs to: of several the one that people ask for most."""
    return next((each for each in by_support(languages) if path.suffix in each.sources), None)
