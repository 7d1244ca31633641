"""The images that are there, in words."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from occd import __version__
from occd.images import Image, describe, described, found

if TYPE_CHECKING:
    from occd.images.docker import Given

_DAY_S = 86_400


def listed(data_dir: Path, given: Mapping[str, "Given"] | None = None) -> Iterator[str]:
    """A line for each image that is described, or built, or that Docker has. `given` are Docker's, if it was
    asked: others may have given them their names."""
    built = {image.name: image for image in found(data_dir)}
    for name in sorted({*described(), *built, *(given or ())}):
        words = in_words(built[name]) if name in built else "not built"
        if name not in described():
            words += "; not described"
        if given is not None:
            words += f"; {_of_docker(name, built.get(name), given.get(name))}"
        yield f"{name:17} {words}"


def _of_docker(name: str, image: Image | None, given: "Given | None") -> str:
    command = f"occd images {name} --docker" + (" --no-build" if image else "")
    if given is None:
        return f"not in Docker: {command} gives it" if image else "not in Docker"
    words = f"in Docker, {given.bytes / 1e9:.1f} GB"
    if given.version is None:
        return f"{words}, not by occd"
    if given.version != __version__:
        by = f"occd {given.version}" if given.version else "an older occd"
        words = f"{words}, by {by}, and this is {__version__}"
        can_be_given = image or name in described()
        return f"{words}: {command} gives it anew" if can_be_given else words
    if image and given.built_at != str(image.built_at):
        return f"{words}, built at another time: {command} gives the one of here"
    return words


def in_words(image: Image) -> str:
    days = int((time.time() - image.built_at) / _DAY_S)
    when = "today" if days < 1 else "yesterday" if days < 2 else f"{days} days ago"
    words = (
        f"Debian {image.release}, {image.architecture}, {image.bytes / 1e9:.1f} GB, built {when}"
    )
    return f"{words}; its description has changed since" if stale(image) else words


def stale(image: Image) -> bool:
    """Whether it is no longer as described."""
    return image.name in described() and describe(image.name).digest != image.digest
