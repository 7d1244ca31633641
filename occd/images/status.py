"""The images that are there, in words."""

import time
from collections.abc import Iterator
from pathlib import Path

from occd.images import Image, describe, described, found

_DAY_S = 86_400


def listed(data_dir: Path) -> Iterator[str]:
    """A line for each image that is described or built."""
    built = {image.name: image for image in found(data_dir)}
    for name in sorted({*described(), *built}):
        yield f"{name:12} {in_words(built[name]) if name in built else 'not built'}"


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
