"""The sandbox under cgroup v2, in a virtual machine: as root, with a delegated group, with none; and attacks
that could take a kernel down.

Each test boots a machine of its own and runs the `guest_*.py` beside this file in it, by pytest.
"""

from pathlib import Path

import machine
import pytest
from vm_image import Image, open_image

pytestmark = [pytest.mark.long, pytest.mark.timeout(1100)]

_TIMEOUT_S = 900  # a fifth of it on a quiet machine
PYTEST = (
    "/job/bin/python -m pytest --noconftest -p no:cacheprovider -c /job/pyproject.toml"
    f" --timeout={_TIMEOUT_S}"  # time is slow in there
)
_AS_ROOT = "env"
_AS_USER = "setpriv --reuid 1000 --regid 1000 --clear-groups"
_AS_DELEGATE = "run_delegated"

# As systemd does for a unit of a user with Delegate=yes: alone in a group whose files are his.
_FUNCTIONS = f"""
run_delegated() {{(
    echo "+cpu +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
    group=$(mktemp -d /sys/fs/cgroup/delegated-XXXXXX)
    chmod 755 $group
    chown 1000:1000 $group $group/cgroup.procs $group/cgroup.subtree_control $group/cgroup.threads
    exec sh -c "echo 0 > $group/cgroup.procs; exec {_AS_USER} $*"
)}}
"""


@pytest.fixture(scope="module")
def image() -> Image:
    return open_image()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("job")
    machine.make_job(folder)
    return folder


def check(image: Image, job: Path, runner: str, uid: int, limits: str) -> None:
    """Run the tests of limits and of terminals, then the daemon's, by two processes."""
    pytest_command = f"{runner} env OCCD_VM_UID={uid} {PYTEST} -q --color=no --durations=5"
    command = f"""{_FUNCTIONS}
{pytest_command} -p guest_lab /job/tests/vm/{limits}.py /job/tests/vm/guest_terminal.py &&
{pytest_command} /job/tests/vm/guest_daemon.py
"""
    finished = machine.run(image, job, command, _TIMEOUT_S)
    print(finished.output)  # pytest shows it when the test fails
    assert finished.status == 0


def test_root(image: Image, job: Path) -> None:
    check(image, job, _AS_ROOT, 0, "guest_limits")


def test_user_with_a_delegated_group(image: Image, job: Path) -> None:
    check(image, job, _AS_DELEGATE, 1000, "guest_limits")


def test_user_without_a_group(image: Image, job: Path) -> None:
    check(image, job, _AS_USER, 1000, "guest_sampled")


@pytest.mark.parametrize("runner", [_AS_ROOT, _AS_DELEGATE], ids=["root", "user"])
def test_attacks_on_the_kernel(image: Image, job: Path, runner: str) -> None:
    pytest_command = f"{runner} {PYTEST} -q --color=no --durations=5 -rP -p guest_lab"
    command = f"{_FUNCTIONS}{pytest_command} /job/tests/vm/guest_attacks.py"
    finished = machine.run(image, job, command, _TIMEOUT_S)
    print(finished.output)
    assert finished.status == 0
