"""The sandbox under cgroup v2, in a virtual machine: as root, with a delegated group, with none.

Each test boots a machine of its own and runs the `guest_*.py` beside this file in it, by pytest.
"""

from pathlib import Path

import machine
import pytest
from vm_image import Image, open_image

pytestmark = pytest.mark.long

_TIMEOUT_S = 900  # a fifth of it on a quiet machine
_PYTEST = "/job/bin/python -m pytest -p no:cacheprovider -c /job/pyproject.toml -q --color=no --durations=8"
_AS_USER = "setpriv --reuid 1000 --regid 1000 --clear-groups"

# As systemd does for a unit of a user with Delegate=yes: alone in a group whose files are his.
_DELEGATED = f"""
echo "+memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
group=/sys/fs/cgroup/delegated
mkdir $group
chown 1000:1000 $group $group/cgroup.procs $group/cgroup.subtree_control $group/cgroup.threads
echo $$ > $group/cgroup.procs
exec {_AS_USER} """


@pytest.fixture(scope="module")
def image() -> Image:
    return open_image()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("job")
    machine.make_job(folder)
    return folder


def check(image: Image, job: Path, command: str) -> None:
    finished = machine.run(image, job, command, _TIMEOUT_S)
    print(finished.output)  # pytest shows it when the test fails
    Path("/tmp/vmprep/last").open("a").write(finished.output)
    assert finished.status == 0


def guest_pytest(uid: int, *names: str) -> str:
    files = " ".join(f"/job/tests/vm/{name}.py" for name in names)
    return f"env OCCD_VM_UID={uid} {_PYTEST} {files}\n"


def test_root(image: Image, job: Path) -> None:
    check(image, job, guest_pytest(0, "guest_limits", "guest_daemon"))


def test_user_with_a_delegated_group(image: Image, job: Path) -> None:
    check(image, job, _DELEGATED + guest_pytest(1000, "guest_limits", "guest_daemon"))


def test_user_without_a_group(image: Image, job: Path) -> None:
    check(image, job, f"{_AS_USER} " + guest_pytest(1000, "guest_sampled", "guest_daemon"))
