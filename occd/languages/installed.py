"""The versions of languages that run on a machine, and the one that a submission gets."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from occd.languages import Language
from occd.languages.fields import Formatter


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of a language that answered inside the jail, in the root of this name (`Sandbox.roots`)."""

    version: str
    binary: str
    root: str = ""

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version))


Available = Mapping[str, tuple[Installed, ...]]
"""Language id to its versions, newest first; a language without one is absent."""


@dataclass(frozen=True, slots=True)
class InstalledFormatter:
    """A formatter that answered inside the jail, in the root of this name (`Sandbox.roots`)."""

    formatter: Formatter
    binary: str
    root: str = ""


Formatters = Mapping[str, InstalledFormatter]
"""By language id; a language without one is absent."""


def formats(language: str) -> str:
    """The word by which a node announces that it has a formatter of this language."""
    return f"format.{language}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A language that some node can run now."""

    language: Language
    versions: Sequence[Installed]
    """Newest first."""
    formats: bool
    """Whether every node has a formatter."""
    traces: bool
    """Whether every node can trace each of the versions."""


def pick(versions: Sequence[Installed], wanted: str | None) -> Installed | None:
    """The newest version that `wanted` (`3`, `3.11`) is a prefix of, by whole numbers."""
    for installed in versions:
        if wanted is None or f"{installed.version}.".startswith(f"{wanted}."):
            return installed
    return None
