"""Docker's engine itself reads our seccomp profile, and answers calls as nsjail does."""

import subprocess
from pathlib import Path

import pytest
from engine import engine, engine_folder
from sandboxed import Lab
from syscalls import calls, in_a_jail, prober, read, written, wrong

from occd.sandbox.profile import for_docker

pytestmark = pytest.mark.long

_IMAGE = "occd-syscalls"


async def test_real_calls_have_the_same_answers_in_a_container(lab: Lab, tmp_path: Path) -> None:
    program, tried = prober(tmp_path), calls()
    (tmp_path / "calls").write_text(written(tried))
    (tmp_path / "profile.json").write_text(for_docker())
    image = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cf", image, program.name, "calls"], check=True)
    with engine_folder() as folder, engine(folder, building=False) as docker:
        docker.docker("import", image, _IMAGE)
        said = docker.docker(
            "run", "--rm", "--network=none", "--read-only", "--user=1000:1000", "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            f"--security-opt=seccomp={tmp_path / 'profile.json'}",
            _IMAGE, f"/{program.name}", "/calls",
        )  # fmt: skip
    assert wrong(tried, await in_a_jail(lab, program, tried), read(said, tried)) == []
