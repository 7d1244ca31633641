"""Finds a language by its name, or by the suffix of a file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from occd.languages import Language
from occd.languages.fields import SUPPORT


def find(languages: Mapping[str, Language], name: str) -> Language | None:
    """The language that has this id, name or alias, in upper or lower case."""
    if name in languages:
        return languages[name]
    return next((each for each in languages.values() if name.lower() in names_of(each)), None)


def names_of(language: Language) -> set[str]:
    return {name.lower() for name in (language.id, language.name, *language.aliases)}


def by_support(languages: Iterable[Language]) -> list[Language]:
    """Those first that people ask for most."""
    return sorted(languages, key=lambda each: SUPPORT.index(each.support))


def for_file(languages: Iterable[Language], path: Path) -> Language | None:
    """The language that a file's suffix belongs to: of several the one that people ask for most."""
    return next((each for each in by_support(languages) if path.suffix in each.sources), None)
