"""The sandbox under cgroup v2, in a virtual machine: as root, with a delegated group, with none, in a
container; and attacks that could take a kernel down.

Each test boots a machine of its own and runs the `guest_*.py` beside this file in it, by pytest.
"""

import re
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


def test_a_container_with_a_delegated_group(image: Image, job: Path) -> None:
    """As uid 1000 without a capability. Nothing of it is left when it has ended."""
    contained = "/job/bin/python /job/tests/vm/contained.py"
    tests = "/job/tests/vm/guest_contained.py /job/tests/vm/guest_limits.py"
    pytest_command = f"{PYTEST} -q --color=no --durations=5 -p guest_lab {tests}"
    command = f"""
mount -o remount,nsdelegate none /sys/fs/cgroup || exit
{contained} cat /proc/self/status || exit
{contained} --writable-cgroups {pytest_command} || exit
echo "left: $(runc list --quiet; find /sys/fs/cgroup -mindepth 1 -type d | grep -E 'NSJAIL|occd')"
echo "with a group of its own:"
{contained} --writable-cgroups /job/bin/occd doctor || exit
echo "beside a daemon:"
{contained} --writable-cgroups /job/bin/occd --roles all --listen 127.0.0.1:8000 --data-dir /tmp/data &
until [ -d /sys/fs/cgroup/system.slice/runc-occd-contained.scope/occd-daemon ]; do sleep 1; done
runc exec occd-contained /job/bin/occd doctor || exit
runc kill occd-contained TERM
wait
echo "without:"
{contained} /job/bin/occd doctor
"""
    finished = machine.run(image, job, command, _TIMEOUT_S, systemd=True)
    print(finished.output)
    assert finished.status == 0
    privileges = dict(
        re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):\t(\w+)", finished.output, re.M)
    )
    none = "0" * 16
    assert privileges == {
        "Uid": "1000", "CapEff": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip
    marks = "with a group of its own:|beside a daemon:|without:"
    before, alone, beside, without = re.split(marks, finished.output)
    assert "left: \n" in before
    for told in (alone, beside):
        assert "ok    memory, processes and CPU time by cgroup v2" in told
        assert "sampled" not in told
        assert "weak  jails are not forked" in told  # packaging/seccomp.json forbids it
    assert "weak  no cgroup is ours: memory and CPU time are sampled every 10 ms" in without
    assert "/sys/fs/cgroup is mounted read-only" in without


@pytest.mark.parametrize("runner", [_AS_ROOT, _AS_DELEGATE], ids=["root", "user"])
def test_attacks_on_the_kernel(image: Image, job: Path, runner: str) -> None:
    pytest_command = f"{runner} {PYTEST} -q --color=no --durations=5 -rP -p guest_lab"
    command = f"{_FUNCTIONS}{pytest_command} /job/tests/vm/guest_attacks.py"
    finished = machine.run(image, job, command, _TIMEOUT_S)
    print(finished.output)
    assert finished.status == 0
