"""Where the tests' RabbitMQ and Redis come from: this machine, or a Debian 13 in a folder of its own.

`SERVERS` in the environment names a set of `SETS`; without it they are this machine's. The folder is made
once and kept (`image_root.py`). A server that is started from it has a mount namespace of its own, in which
the folder is the root: neither the machine's mounts nor the folder are changed.
"""

import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import gettempdir

from image_root import debian_root

_PACKAGES = ("rabbitmq-server", "redis-server", "valkey-server")

# The root is a layer of memory above the folder. "$2" is where tests keep their files.
_ENTER = """\
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" none /mnt/root
mkdir -p "/mnt/root$2"
mount --rbind "$2" "/mnt/root$2"
mount --rbind /dev /mnt/root/dev
mount -t proc none /mnt/root/proc
shift 2
exec chroot /mnt/root "$@"
"""


@dataclass(frozen=True, slots=True)
class Servers:
    redis: str = "redis-server"
    """Or Valkey, which takes the same configuration and says the same."""
    release: str | None = None
    """Of Debian; None: what this machine has."""

    def command(self, program: str, *argv: str) -> tuple[str, ...]:
        """Starts `program`, which finds this machine's folder for temporary files where it is. The process
        of this command becomes the program's."""
        if self.release is None:
            return program, *argv
        root = str(_made(self.release))
        return (
            "unshare",
            "--mount",
            "sh",
            "-euc",
            _ENTER,
            "sh",
            root,
            gettempdir(),
            program,
            *argv,
        )

    def lacks(self, program: str) -> bool:
        return self.release is None and not shutil.which(program)


SETS = {
    "debian-13": Servers(release="trixie"),
    "debian-13-valkey": Servers(release="trixie", redis="valkey-server"),
}


def chosen() -> Servers:
    name = os.environ.get("SERVERS")
    return SETS[name] if name else Servers()


@cache
def _made(release: str) -> Path:
    """Nobody removes it before it is a week old."""
    assert os.geteuid() == 0, "servers of another Debian need root"
    with debian_root(_PACKAGES, release) as folder:
        return folder
