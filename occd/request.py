"""What a client asks for, as a plain value: the gate (`occd/admission.py`) makes a `Submission` of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from occd.model import File


@dataclass(frozen=True, slots=True)
class Request:
    """A program to be run. `language` is an id, a name or an alias. `source` is the text of the main file;
    without it the main file is one of `files`. `limits` has what was asked for, by its name in `Limits`."""

    language: str
    version: str | None = None
    source: bytes | None = None
    files: tuple[File, ...] = ()
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    compile_args: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    interactive: bool = False
    user_id: str | None = None

    @property
    def sources_bytes(self) -> int:
        return len(self.source or b"") + sum(len(file.content) for file in self.files)

    @property
    def bytes(self) -> int:
        return self.sources_bytes + len(self.stdin)
