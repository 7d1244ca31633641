"""The packages of a language, as its file names them."""

from typing import Annotated

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from occd.languages.faults import in_a_line

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@][A-Za-z0-9@/.+_=-]*$")]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Packages:
    """The packages to install, by the tool that installs them, with the names that the tool knows."""

    apt: tuple[Name, ...] = ()
    pip: tuple[Name, ...] = ()
    npm: tuple[Name, ...] = ()

    def __str__(self) -> str:
        """The commands that install them, for a person."""
        tools = {"apt-get install": self.apt, "pip install": self.pip, "npm install -g": self.npm}
        return " && ".join(f"{tool} {' '.join(names)}" for tool, names in tools.items() if names)


def load_packages(values: object) -> Packages:
    """The packages of a table such as `{apt = ["python3"], pip = ["ruff==0.17.6"]}`.

    Raises ValueError, which names the key.
    """
    try:
        return TypeAdapter(Packages).validate_python(values)
    except ValidationError as error:
        raise ValueError(f"install: {in_a_line(error)}") from error
