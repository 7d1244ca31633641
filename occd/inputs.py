"""The inputs of a run: files, limits, a terminal. Sizes are bytes, durations seconds."""

from dataclasses import dataclass

from occd import rules


@dataclass(frozen=True, slots=True)
class Limits:
    cpu_time: float = 5.0
    wall_time: float = 10.0
    memory: int = 256 * 2**20
    processes: int = 64
    output: int = 2**20
    file_size: int = 10 * 2**20
    box: int = 64 * 2**20
    open_files: int = 256
    idle: float | None = None
    """For an interactive program: without input it ends after this time if it does nothing, and after three
    times as long whatever it does."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None or name != "idle":
                rules.limit(name, value)


@dataclass(frozen=True, slots=True)
class File:
    name: str
    content: bytes
    executable: bool = False
    """A file that begins with `#!` is executable by itself."""

    def __post_init__(self) -> None:
        rules.check("name", rules.file_name, self.name)


@dataclass(frozen=True, slots=True)
class Terminal:
    """The window of a program's terminal, in characters."""

    rows: int
    cols: int

    def __post_init__(self) -> None:
        rules.check("rows", rules.terminal_side, self.rows)
        rules.check("cols", rules.terminal_side, self.cols)
