"""A small Debian from the machine's own sources, for tests that need a root without what this machine has."""

import subprocess
from pathlib import Path


def bootstrap(root: Path, *included: str, release: str = "bookworm") -> None:
    """A Debian without anything that is not essential, but for these packages. It is made behind the tests of
    the same time."""
    options = [f"--include={','.join(included)}"] if included else []
    done = subprocess.run(
        ["nice", "debootstrap", "--variant=minbase", *options, release, root, mirror()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def mirror() -> str:
    """Where this machine itself gets that release from."""
    filters = ["Created-By: Packages", "Codename: bookworm", "Component: main", "Origin: Debian"]
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    plain = [each for each in found if "security" not in each]
    assert plain, "apt knows no source of Debian bookworm"
    return plain[0]
