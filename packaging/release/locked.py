"""The lock, read: `packaging/locked/*.txt`, which pip takes with --require-hashes and `make lock` writes."""

from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

FOLDER = Path(__file__).resolve().parent.parent / "locked"


@dataclass(frozen=True, slots=True)
class Locked:
    name: NormalizedName
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]
    """As pip writes them: `sha256:` and 64 digits, one for each file of the release."""


def locked(file: str) -> dict[NormalizedName, Locked]:
    """The packages that a file of the folder names.

    Raises ValueError for a line that is no package with its hashes."""
    found = {}
    lines = (FOLDER / file).read_text().replace("\\\n", "").splitlines()
    for line in lines:
        if line.lstrip().startswith("#"):
            continue
        text, *hashes = line.split(" --hash=")
        package = Requirement(text)
        (exact,) = package.specifier
        if exact.operator != "==" or package.url or not hashes:
            raise ValueError(f"{file}: {text}: not locked")
        name = canonicalize_name(package.name)
        if name in found:
            raise ValueError(f"{file}: {name}: twice")
        found[name] = Locked(name, exact.version, package.marker, tuple(map(str.strip, hashes)))
    return found
