"""What `packaging/` holds, read as its users' tools read it."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from occd.config import Config, load_config

PACKAGING = Path(__file__).resolve().parent.parent / "packaging"


def compose_services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["services"]
    return services


def kustomized(folder: str) -> list[dict[str, Any]]:
    """The objects that `kubectl apply -k` would send."""
    built = subprocess.run(
        ["kubectl", "kustomize", PACKAGING / "k8s" / folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""  # nothing deprecated
    return list(yaml.safe_load_all(built.stdout))


def seconds(duration: str) -> int:
    found = re.fullmatch(r"(\d+)s", duration)
    assert found
    return int(found[1])


def accepted(folder: Path, environment: Mapping[str, str], args: list[str]) -> Config:
    """The configuration of a process that is started with these; it refuses what it does not know."""
    assert args[0] == "--roles"
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith("OCCD_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        return load_config(folder, {"roles": tuple(args[1].split(","))})


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, one after the other, continued lines joined."""
    text = (PACKAGING / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (name, rest)
        for line in joined.splitlines()
        if line
        for name, _, rest in [line.partition(" ")]
    ]


def image_settings() -> dict[str, str]:
    """The settings that the image brings along."""
    (text,) = [rest for name, rest in dockerfile() if name == "ENV"]
    return dict(pair.split("=", 1) for pair in text.split() if pair.startswith("OCCD_"))


def seccomp() -> dict[str, Any]:
    profile: dict[str, Any] = json.loads((PACKAGING / "seccomp.json").read_text())
    return profile
