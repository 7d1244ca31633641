"""Run by `sandbox/hold/python.c` in an interpreter that has stopped before its main file: imports `packages`,
of which there may be none, so that copies of the interpreter have them. Nothing else that a program looks at
may tell of it."""

import sys

known = set(sys.modules)

import atexit
import gc
import os

for name in sys.modules.keys() - known:
    del sys.modules[name]

MOST_FILES, MOST_BYTES = 100, 4 << 20
FOLDERS = "/box", "/tmp", "/dev/shm"


class Kept:
    """A module for whoever imports it while Python ends. It is no module for Python, which would take it
    apart object by object; that takes longer than most programs."""

    __slots__ = ("module",)

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name)


class Missing:
    """A finder that finds nothing, and is asked last."""

    def __init__(self):
        self.names = set()

    def find_spec(self, name, path=None, target=None):
        self.names.add(name)


def fail(reason):
    os.write(2, f"occd-hold: {reason}\n".encode())
    os._exit(125)


def load():
    """Import the packages. They must be silent. The modules that came along, and the names of the missing."""
    missing = Missing()
    said = os.memfd_create("said")
    streams = [(number, os.dup(number)) for number in (1, 2)]
    for number, _ in streams:
        os.dup2(said, number)
    sys.meta_path.append(missing)
    error = None
    try:
        for name in packages:
            __import__(name)
    except (Exception, SystemExit) as raised:
        error = f"{type(raised).__name__}: {raised}"
    sys.meta_path.remove(missing)
    for stream in sys.stdout, sys.stderr:
        stream.flush()
    for number, stream in streams:
        os.dup2(stream, number)
        os.close(stream)
    words = os.pread(said, 1000, 0).decode(errors="replace")
    os.close(said)
    if error or words:
        fail(error or words)
    return {name: sys.modules[name] for name in sys.modules.keys() - known}, missing.names


def files():
    """What the packages left: the folders, and the files with their contents."""
    left = [], []
    for top in FOLDERS:
        for folder, folders, names in os.walk(top):
            left[0].extend(os.path.join(folder, name) for name in folders)
            for path in (os.path.join(folder, name) for name in names):
                with open(path, "rb") as file:
                    left[1].append((path, file.read(MOST_BYTES)))
    if (
        len(left[0]) + len(left[1]) > MOST_FILES
        or sum(len(each[1]) for each in left[1]) > MOST_BYTES
    ):
        fail("the packages leave many files")
    return left


def begin():
    """In a copy that becomes a program now."""
    if "random" in loaded:
        loaded["random"].seed()
    if "numpy.random" in loaded:
        loaded["numpy.random"].seed()
    if "tempfile" in loaded:
        loaded["tempfile"]._name_sequence = None
    if "logging" in loaded:
        loaded["logging"]._startTime = clock()
    try:
        for path in folders:
            os.makedirs(path, exist_ok=True)
        for path, content in contents:
            with open(path, "xb") as file:
                file.write(content)
    except OSError:
        pass  # the program's own files are there, or have no room left


def end():
    """When all that the program wants to run at its end has run. A module to which it added something that is
    to end with it stays one."""
    same = {name: module for name, (module, size) in own.items() if len(vars(module)) == size}
    for name, module in (loaded | same).items():
        if sys.modules.get(name) is module:
            sys.modules[name] = Kept(module)
    # Some of the packages hold it for good, and what is printed from now on would stay in it.
    if text := getattr(sys, "__stdout__", None):
        write = text.write

        def write_at_once(data):
            size = write(data)
            text.flush()
            return size

        text.write = write_at_once


atexit.register(end)
opened = os.listdir("/proc/self/fd")
loaded, missing = load()
if os.listdir("/proc/self/fd") != opened:
    fail("the packages have files open")
with open("/proc/self/maps") as maps:
    if any(line.split()[1][1::2] == "ws" for line in maps):  # of rw-s
        fail("the packages have memory that copies would share")
folders, contents = files()
if "logging" in loaded:
    import time

    clock = time.time_ns if isinstance(loaded["logging"]._startTime, int) else time.time
names = {name.partition(".")[0] for name in loaded.keys() | missing}
found = "\n".join(sorted(names.difference(sys.builtin_module_names)))
own = {
    name: (module, len(vars(module)))
    for name, module in sys.modules.items()
    if name in known - {"builtins", "sys", "__main__"}
}
gc.collect()
gc.freeze()  # else Python's end would look at each object, and take most of them apart
# What is frozen is no garbage. What the program leaves in its own module is.
main = type(sys)("__main__")
vars(main).update(vars(sys.modules["__main__"]))
sys.modules["__main__"] = main
del main
