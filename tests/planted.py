"""Secrets that a test plants, each a random word, and all that was told to anybody: where is one of them?"""

import base64
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from serving import Answer, Server


@dataclass
class Planted:
    words: dict[str, str] = field(default_factory=dict)
    """By what each is."""
    told: list[tuple[str, bytes, Collection[str]]] = field(default_factory=list)
    """What something said, and the secrets that are meant to be there."""

    def plant(self, name: str) -> str:
        """A new secret. Backwards it is no secret, so that a program can make one of its own."""
        self.words[name] = token_hex(16)
        return self.words[name]

    def found(self, name: str, word: str) -> None:
        """A secret that occd made."""
        assert len(word) >= 20, name
        self.words[name] = word

    def note(self, what: str, said: bytes, meant: Collection[str] = ()) -> None:
        self.told.append((what, said, meant))

    def answer(self, what: str, answer: Answer, meant: Collection[str] = ()) -> Answer:
        head = f"{answer.status}\n{answer.headers}".encode()
        self.note(f"{what}: {answer.status}", head + answer.body, meant)
        return answer

    def logs(self, *servers: Server) -> None:
        """What they wrote to stderr, where the journal reads it, and to stdout."""
        for server in servers:
            for path in (server.log, server.output):
                self.note(path.name, path.read_bytes())

    @property
    def leaks(self) -> list[str]:
        return [
            f"{name} in {what}: {said.decode(errors='replace')[-3000:]}"
            for what, said, meant in self.told
            for name in self._in(said)
            if name not in meant
        ]

    @property
    def seen(self) -> set[str]:
        """Those that were somewhere."""
        return {name for _, said, _ in self.told for name in self._in(said)}

    def _in(self, said: bytes) -> list[str]:
        return [
            name for name, word in self.words.items() if any(each in said for each in forms(word))
        ]


def forms(word: str) -> Iterator[bytes]:
    """As it is, and within something that was encoded as base64."""
    yield word.encode()
    yield json.dumps(word)[1:-1].encode()
    for before in range(3):
        encoded = base64.b64encode(b"." * before + word.encode())
        yield encoded[4 * (before > 0) : 4 * (len(word) // 3)]


def talkative(folder: Path, python: str) -> Path:
    """A program `occd` in which every library says all that it can say."""
    program = folder / "talkative-occd"
    program.write_text(
        f"#!{python}\nimport logging\nlogging.basicConfig(level=1)\n"
        "from occd.__main__ import main\nmain()\n"
    )
    program.chmod(0o755)
    return program
