"""Docker's engine itself reads our seccomp profile, and answers calls as nsjail does."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from engine import call, engine, engine_folder
from sandboxed import Lab
from syscalls import Call, calls, in_a_jail, prober, read, written, wrong

from occd.sandbox.profile import for_docker

pytestmark = pytest.mark.long

_IMAGE = "occd-syscalls"


async def test_real_calls_have_the_same_answers_in_a_container(lab: Lab, tmp_path: Path) -> None:
    program, tried = prober(tmp_path), calls()
    said = in_a_container(program, tried, tmp_path)
    assert wrong(tried, await in_a_jail(lab, program, tried), read(said, tried)) == []


def in_a_container(program: Path, tried: Sequence[Call], folder: Path) -> str:
    (folder / "calls").write_text(written(tried))
    (folder / "profile.json").write_text(for_docker())
    call("tar", "-C", folder, "-cf", folder / "image.tar", program.name, "calls")
    with engine_folder() as images, engine(images, building=False) as docker:
        docker.docker("import", folder / "image.tar", _IMAGE)
        return docker.docker(
            "run", "--rm", "--network=none", "--read-only", "--user=1000:1000", "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            f"--security-opt=seccomp={folder / 'profile.json'}",
            _IMAGE, f"/{program.name}", "/calls",
        )  # fmt: skip
