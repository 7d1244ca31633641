"""Makes one file of a folder: the stub, what the folder holds, and where in the file (stub.c has the form).

    python packaging/binary/pack.py FOLDER FILE

The folder's program is its file `occd`.
"""

import hashlib
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

_STUB = Path(__file__).with_name("stub.c")
_COMPILER = os.environ.get("CC", "cc")
_FLAGS = ["-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror"]
_TAIL = struct.Struct("<64sQQQQ")


def pack(folder: Path, target: Path) -> None:
    """Write `target`, whose contents depend on nothing but the folder's and the compiler."""
    listed, files, size = bytearray(), [], 0
    for path in _below(folder):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            listed += f"l 0 0 {name}\0{path.readlink()}\0".encode()
        elif path.is_dir():
            listed += f"d 700 0 {name}\0".encode()
        else:
            status = path.stat()
            mode = 0o700 if status.st_mode & 0o100 else 0o600
            listed += f"f {mode:o} {status.st_size} {name}\0".encode()
            size += status.st_size
            files.append(path)
    packer = zlib.compressobj(9)
    stream = b"".join(packer.compress(path.read_bytes()) for path in files) + packer.flush()
    name = hashlib.sha256(listed + stream).hexdigest()
    tail = _TAIL.pack(name.encode(), len(listed), len(stream), size, zlib.crc32(listed))
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        made = Path(work, "made")
        _compile(made)
        with made.open("ab") as file:
            file.write(listed + stream + tail)
        made.chmod(0o755)
        made.rename(target)


def _compile(target: Path) -> None:
    try:
        subprocess.run([_COMPILER, *_FLAGS, "-o", target, _STUB, "-lz"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"occd: cannot compile: {error}. It needs a C compiler, the static C library and zlib's "
            "(Debian: gcc libc6-dev zlib1g-dev); CC= names another."
        ) from error


def _below(folder: Path) -> Iterator[Path]:
    """Folders before what is in them."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
