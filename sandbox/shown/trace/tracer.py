"""Lists the system calls of a program, from within the program's jail: `tracer.py PID OUT GO`.

init starts this process beside the program, with the program's user, control groups and seccomp policy, so that it
may do no more than the program. PID sends a byte over the socket GO when it can be traced, and waits for another
before it executes the program. This process attaches to it, and then writes lines of JSON to the file OUT, each before
the program goes on:

    [number, process, microseconds since the start, name, [argument, ...]]      a call begins
    [number, microseconds that it took, result, error or null, arguments or null]  it has ended

The program can kill or stop this process, hide what it does from it, and choose what the arguments say. So all that
is read of the program has a bound here, whoever reads OUT trusts no line of it, and init alone says how this process
ended: 0 says that there would have been more calls or bytes than are listed, 3 that nothing may be traced here, 4 that
the last process of the program has ended. At the end of this process the kernel lets the program go on, untraced.

python-ptrace knows the calls, their arguments, and what the arguments mean.
"""

import ctypes
import ctypes.util
import errno
import json
import os
import re
import sys
import time

CALLS_MAX, BYTES_MAX = 10_000, 6 << 20
TEXT_MAX, ARRAY_MAX, READ_MAX = 160, 16, 4096
ARGUMENTS_MAX = 800  # characters of one call
SEIZE, INTERRUPT, LISTEN, GET_SYSCALL_INFO = 0x4206, 0x4207, 0x4208, 0x420E
EVENT_STOP = 128
GROUP_STOPS = (19, 20, 21, 22)  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
SYSCALL_STOP = 5 | 0x80
AT_LIMIT, NOT_PERMITTED, WHOLE = 0, 3, 4

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
ctypes.util.find_library = lambda _name: "libc.so.6"  # the real one starts programs to find out

from ptrace import PtraceError, func_arg  # noqa: E402
from ptrace.binding import func  # noqa: E402
from ptrace.binding.func import ptrace  # noqa: E402
from ptrace.func_call import FunctionCall, FunctionCallOptions  # noqa: E402
from ptrace.signames import signalName  # noqa: E402
from ptrace.syscall import SYSCALL_NAMES, SYSCALL_PROTOTYPES, SyscallArgument  # noqa: E402
from ptrace.syscall import syscall_argument as decoding  # noqa: E402
from ptrace.syscall.posix_arg import (  # noqa: E402
    formatAccessMode,
    formatDirFd,
    formatMmapProt,
    formatOpenFlags,
    formatOpenMode,
)
from ptrace.syscall.socketcall_constants import SOCKET_FAMILY  # noqa: E402
from ptrace.tools import formatBits  # noqa: E402

# Calls that are newer than python-ptrace's list. They have the same numbers everywhere.
NEWER = [
    "pidfd_send_signal",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "pidfd_open",
    "clone3",
    "close_range",
    "openat2",
    "pidfd_getfd",
    "faccessat2",
    "process_madvise",
    "epoll_pwait2",
    "mount_setattr",
    "quotactl_fd",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "memfd_secret",
    "process_mrelease",
    "futex_waitv",
    "set_mempolicy_home_node",
    "cachestat",
    "fchmodat2",
    "map_shadow_stack",
    "futex_wake",
    "futex_wait",
    "futex_requeue",
    "statmount",
    "listmount",
    "lsm_get_self_attr",
    "lsm_set_self_attr",
    "lsm_list_modules",
    "mseal",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
    "open_tree_attr",
    "file_getattr",
    "file_setattr",
]
NAMES = {424 + at: name for at, name in enumerate(NEWER)} | SYSCALL_NAMES
if os.uname().machine == "x86_64":
    later = ("statx", "io_pgetevents", "rseq")
    NAMES = {332 + at: name for at, name in enumerate(later)} | NAMES

# What a call tells at its end, so that its arguments are read again.
TELLS = frozenset(
    [
        "read",
        "pread64",
        "recvfrom",
        "getcwd",
        "readlink",
        "readlinkat",
        "uname",
        "newuname",
        "pipe",
        "pipe2",
        "socketpair",
        "wait4",
        "nanosleep",
        "clock_gettime",
        "gettimeofday",
        "accept",
        "accept4",
        "getsockname",
        "getpeername",
        "getrlimit",
        "prlimit64",
        "poll",
        "ppoll",
        "select",
        "pselect6",
    ]
)
# The argument with a text, and the argument that says how long it is; None: the result does.
TEXTS = {
    "read": (1, None),
    "pread64": (1, None),
    "recvfrom": (1, None),
    "readlink": (1, None),
    "readlinkat": (2, None),
    "write": (1, 2),
    "pwrite64": (1, 2),
    "sendto": (1, 2),
}
MAP_FLAGS = (
    (1, "MAP_SHARED"),
    (2, "MAP_PRIVATE"),
    (0x10, "MAP_FIXED"),
    (0x20, "MAP_ANONYMOUS"),
    (0x800, "MAP_DENYWRITE"),
    (0x2000, "MAP_LOCKED"),
    (0x4000, "MAP_NORESERVE"),
    (0x8000, "MAP_POPULATE"),
    (0x20000, "MAP_STACK"),
)
FLAGS = re.compile(r"^<?([A-Z][A-Z0-9_|]+)>? \([0-9a-fox]+\)$")
ZEROS = re.compile(r"^0x0+(?=[0-9a-f])")
REQUESTS = {
    0: "PTRACE_TRACEME",
    16: "PTRACE_ATTACH",
    17: "PTRACE_DETACH",
    SEIZE: "PTRACE_SEIZE",
}


def teach():
    """Teach python-ptrace some more arguments, and let it be silent about those that it cannot read."""
    func_arg.writeError = decoding.writeError = lambda *_args, **_names: None
    decoding.ARGUMENT_CALLBACK["faccessat"] = {"mode": formatAccessMode}
    for name, (kind, arguments) in list(SYSCALL_PROTOTYPES.items()):
        known = {
            "mode": formatOpenMode,
            "dfd": formatDirFd,
            "dirfd": formatDirFd,
            "olddfd": formatDirFd,
            "newdfd": formatDirFd,
        }
        for _, argument in arguments:
            if argument in known:
                decoding.ARGUMENT_CALLBACK.setdefault(name, {}).setdefault(
                    argument, known[argument]
                )
        texts = [
            ("char *", "pathname")
            if one[1] in ("dev_name", "dir_name", "type") and one[0] == "char *"
            else one
            for one in arguments
        ]
        SYSCALL_PROTOTYPES[name] = (kind, tuple(texts))
    callbacks = decoding.ARGUMENT_CALLBACK
    callbacks["mprotect"] = {"prot": formatMmapProt}
    callbacks.setdefault("mmap", {})["flags"] = lambda each: formatBits(each.value, MAP_FLAGS, "0")
    callbacks["mmap"]["fd"] = lambda each: str(ctypes.c_int(each.value).value)
    for name, argument in (
        ("mmap", "addr"),
        ("mprotect", "start"),
        ("munmap", "addr"),
        ("brk", "brk"),
    ):
        callbacks.setdefault(name, {})[argument] = lambda each: (
            hex(each.value) if each.value else "NULL"
        )
    callbacks["pipe2"] = {"flags": formatOpenFlags}
    callbacks["socket"]["family"] = lambda each: SOCKET_FAMILY.get(each.value, str(each.value))
    for name in ("kill", "tkill", "tgkill", "rt_sigaction"):
        for argument in ("sig", "signum"):
            callbacks.setdefault(name, {})[argument] = lambda each: signalName(each.value)
    decoding.SYSCALL_ARG_DICT["ptrace"] = {"request": REQUESTS}


def shortened(text):
    """An argument as people write it: flags without their number, bytes that are no text as bytes."""
    text = FLAGS.sub(r"\1", ZEROS.sub("0x", text)).replace("\\udc", "\\x")
    return text if len(text) <= 2 * TEXT_MAX else text[: 2 * TEXT_MAX] + "…"


class Memory:
    """The program's memory, as python-ptrace asks for it. All of it is bounded."""

    def __init__(self, task):
        self._path = f"/proc/{task}/mem"

    def readBytes(self, address, size):
        if not 0 <= size <= READ_MAX:
            raise PtraceError("too much")
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, size, address)
        finally:
            os.close(file)

    def readCString(self, address, most):
        text, end, _ = self.readBytes(address, most + 1).partition(b"\0")
        return text[:most], not end and len(text) > most

    def readWord(self, address):
        return int.from_bytes(self.readBytes(address, 8), sys.byteorder)

    def readStruct(self, address, struct):
        return struct.from_buffer_copy(self.readBytes(address, ctypes.sizeof(struct)))

    def readArray(self, address, basetype, count):
        return (basetype * min(count, ARRAY_MAX)).from_buffer_copy(
            self.readBytes(address, ctypes.sizeof(basetype) * min(count, ARRAY_MAX))
        )


OPTIONS = FunctionCallOptions(string_max_length=TEXT_MAX, max_array_count=ARRAY_MAX)


class Call(FunctionCall):
    """A call that has begun."""

    def __init__(self, task, number, values):
        name = NAMES.get(number, f"syscall_{number}")
        super().__init__(name, OPTIONS, SyscallArgument)
        self.process = Memory(task)
        self.restype, formats = SYSCALL_PROTOTYPES.get(name, ("long", [(None, None)] * 6))
        for value, (kind, argument) in zip(values, formats):
            self.addArgument(value=value, name=argument, type=kind)

    def texts(self, result=None):
        """The arguments, as far as they are known. `result` is known at the end."""
        found = []
        for at, argument in enumerate(self.arguments):
            argument.text = None
            found.append(shortened(self._text(at, argument, result)))
        while found and not found[-1]:  # the mode of an open() that makes no file
            found.pop()
        while sum(map(len, found)) > ARGUMENTS_MAX:
            longest = max(range(len(found)), key=lambda at: len(found[at]))
            found[longest] = found[longest][: len(found[longest]) // 2] + "…"
        return found

    def _text(self, at, argument, result):
        if argument.name == "envp" and argument.value:
            return "<environment>"
        where, length = TEXTS.get(self.name, (None, None))
        if at == where:
            size = result if length is None else self.arguments[length].value
            if size is not None and size > 0:
                try:
                    return argument.readString(argument.value, size)
                except (OSError, OverflowError, PtraceError):
                    return hex(argument.value)
        return argument.getText()


class Info(ctypes.Structure):
    """What the kernel says of a call: `struct ptrace_syscall_info`."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        (
            "values",
            ctypes.c_uint64 * 8,
        ),  # the number and arguments, or the result and whether it is an error
    )


class Untold(Exception):
    """The kernel tells of no call, as gVisor, which has no GET_SYSCALL_INFO."""


class Tracer:
    def __init__(self, out):
        self._out = out
        self._info = Info()
        self._begun = {}  # by task: the number of its call, the call, when it began
        self._listing = False  # from the first program that was executed
        self._calls = 0
        self._bytes = 0
        self._from = 0

    def trace(self):
        while True:
            try:
                task, status = os.waitpid(-1, func.THREAD_TRACE_FLAGS)
            except ChildProcessError:
                return WHOLE
            if not os.WIFSTOPPED(status):
                self._begun.pop(task, None)
                continue
            if self._stopped(task, os.WSTOPSIG(status), status >> 16):
                return AT_LIMIT

    def _stopped(self, task, signal, event):
        """Let a task go on that has stopped. Returns whether the list has got to its limit."""
        request, passed = func.PTRACE_SYSCALL, 0
        try:
            if signal == SYSCALL_STOP:
                if self._call(task):
                    return True
            elif event == func.PTRACE_EVENT_EXEC:
                self._executed(task)
            elif event == EVENT_STOP:
                if signal in GROUP_STOPS:
                    request = LISTEN
            elif not event:
                passed = signal
            ptrace(request, task, 0, passed)
        except PtraceError as error:
            if error.errno != errno.ESRCH:  # it has just been killed
                raise
        return False

    def _call(self, task):
        now = time.monotonic_ns()
        info = self._info
        try:
            ptrace(GET_SYSCALL_INFO, task, ctypes.sizeof(info), ctypes.addressof(info))
        except PtraceError as error:
            if error.errno == errno.EIO:
                raise Untold from error
            raise
        if info.op == 1:
            call = Call(task, info.values[0], info.values[1:7])
            number = 0
            texts = call.texts()
            if self._listing:
                if self._calls == CALLS_MAX:
                    return True
                number = self._begin(task, call.name, texts, now)
            self._begun[task] = number, call, texts, now
        elif info.op == 2 and task in self._begun:
            number, call, _, began = self._begun.pop(task)
            if number:
                result = ctypes.c_long(info.values[0]).value
                self._end(number, call, result, bool(info.values[1] & 0xFF), now - began)
        return self._bytes > BYTES_MAX

    def _executed(self, task):
        """A thread has become the only one of its process, and has its number now."""
        event = ctypes.c_ulong()
        ptrace(func.PTRACE_GETEVENTMSG, task, 0, ctypes.addressof(event))
        call = self._begun.pop(event.value, None)
        if not self._listing:
            self._listing = True
            self._from = time.monotonic_ns()
            if call:
                _, call, texts, _ = call
                call = self._begin(task, call.name, texts, self._from), call, texts, self._from
        if call:
            self._begun[task] = call

    def _begin(self, task, name, texts, now):
        self._calls += 1
        self._write([self._calls, task, (now - self._from) // 1000, name, texts])
        return self._calls

    def _end(self, number, call, result, failed, took):
        if failed:
            text, error = "-1", errno.errorcode.get(-result, str(-result))
        elif call.restype.endswith("*") or call.name in ("mmap", "brk", "mremap"):
            text, error = hex(result & 0xFFFFFFFFFFFFFFFF), None
        else:
            text, error = str(result), None
        texts = call.texts(result) if call.name in TELLS and not failed else None
        self._write([number, took // 1000, text, error, texts])

    def _write(self, line):
        data = json.dumps(line).encode() + b"\n"
        self._bytes += len(data)
        os.write(self._out, data)


def main():
    program, out, go = map(int, sys.argv[1:4])
    libc = ctypes.CDLL("libc.so.6")
    libc.prctl(
        4, 0, 0, 0, 0
    )  # PR_SET_DUMPABLE: the program may neither trace this process nor open its files
    teach()
    options = (
        func.PTRACE_O_TRACESYSGOOD
        | func.PTRACE_O_TRACEFORK
        | func.PTRACE_O_TRACEVFORK
        | func.PTRACE_O_TRACECLONE
        | func.PTRACE_O_TRACEEXEC
    )
    os.read(go, 1)
    try:
        ptrace(SEIZE, program, 0, options)
        ptrace(INTERRUPT, program)
    except PtraceError:
        return NOT_PERMITTED
    os.write(go, b".")
    os.close(go)
    try:
        return Tracer(out).trace()
    except Untold:
        return NOT_PERMITTED


if __name__ == "__main__":
    os._exit(main())
