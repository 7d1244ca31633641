"""`occd warm`: makes now what compilations have in common, and tells what is there."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from occd.config import Config
from occd.errors import OccdError
from occd.log import printable

if TYPE_CHECKING:
    from occd.execution.precompiled import Part


async def warm(config: Config, cache: Path) -> bool:
    """Whether all is there now."""
    from occd.execution.precompiled import Precompiled
    from occd.sandbox import open_sandbox

    failed = 0

    def tell(part: "Part", words: str, well: bool) -> None:
        nonlocal failed
        failed += not well
        click.echo(printable(f"{part}: {words}"))

    async with open_sandbox(config, cache) as sandbox:
        precompiled = Precompiled(config, sandbox)
        if not precompiled.is_on:
            raise OccdError(
                "precompiled.bytes: is 0, so nothing is precompiled" if sandbox.shows else
                "sandbox.kind: docker: programs see the image alone, so nothing is precompiled"
            )  # fmt: skip
        try:
            await precompiled.make(tell)
        except OSError as error:
            raise OccdError(f"{config.precompiled_folder}: {error.strerror or error}") from error
    return not failed
