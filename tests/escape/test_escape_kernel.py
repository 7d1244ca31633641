"""System calls that have been ways out of sandboxes. Numbers are those of x86-64."""

import platform
from dataclasses import replace

import pytest
from sandboxed import SHORT, Lab

pytestmark = [
    pytest.mark.promise,
    pytest.mark.skipif(
        platform.machine() != "x86_64", reason="system call numbers are those of x86-64"
    ),
]

DENIED = {
    "mount": (165, 'b"none", b"/tmp", b"tmpfs", 0, 0'),
    "umount": (166, 'b"/tmp", 2'),
    "pivot_root": (155, 'b"/tmp", b"/tmp"'),
    "chroot": (161, 'b"/tmp"'),
    "move_mount": (429, "-100, b'/tmp', -100, b'/box', 0"),
    "open_tree": (428, "-100, b'/', 1"),
    "fsopen": (430, "b'tmpfs', 0"),
    "mount_setattr": (442, "-100, b'/', 0, 0, 0"),
    "unshare_user": (272, "0x10000000"),
    "unshare_mount": (272, "0x20000"),
    "unshare_net": (272, "0x40000000"),
    "setns": (308, "0, 0"),
    "clone_newuser": (56, "0x10000000 | 17, 0, 0, 0, 0"),
    "clone_newpid": (56, "0x20000000 | 17, 0, 0, 0, 0"),
    "swapon": (167, 'b"/box/swap", 0'),
    "keyctl": (250, "0, -3, 1"),
    "add_key": (248, "b'user', b'name', b'value', 5, -3"),
    "request_key": (249, "b'user', b'name', 0, -3"),
    "bpf": (321, "0, 0, 0"),
    "perf_event_open": (298, "0, 0, -1, -1, 0"),
    "userfaultfd": (323, "0"),
    "fanotify_init": (300, "0, 0"),
    "open_by_handle_at": (304, "-100, 0, 0"),
    "name_to_handle_at": (303, "-100, b'/', 0, 0, 0"),
    "init_module": (175, "0, 0, b''"),
    "finit_module": (313, "0, b'', 0"),
    "delete_module": (176, "b'x', 0"),
    "kexec_load": (246, "0, 0, 0, 0"),
    "reboot": (169, "0xfee1dead, 672274793, 0x1234567, 0"),
    "syslog": (103, "3, 0, 0"),
    "acct": (163, "b'/box/acct'"),
    "quotactl": (179, "0, 0, 0, 0"),
    "quotactl_fd": (443, "os.open('/usr', 0), 0, 0, 0"),
    "seccomp_filter": (317, "1, 0, 0"),
    "seccomp_strict": (317, "0, 0, 0"),
    "prctl_seccomp_filter": (157, "22, 2, 0"),
    "prctl_seccomp_strict": (157, "22, 1, 0"),
    "prctl_sched_core": (157, "62, 1, 0, 0, 0"),
    "mbind": (237, "0, 4096, 0, 0, 0, 0"),
    "set_mempolicy": (238, "0, 0, 0"),
    "set_mempolicy_home_node": (450, "0, 0, 0, 0"),
    "migrate_pages": (256, "0, 0, 0, 0"),
    "move_pages": (279, "0, 0, 0, 0, 0, 0"),
    "process_mrelease": (448, "0, 0"),
    "lsm_set_self_attr": (460, "0, 0, 0, 0"),
    "open_tree_attr": (467, "-100, b'/', 0, 0, 0"),
    "socketpair_of_another_family": (53, "38, 5, 0, ctypes.c_buffer(8)"),
    "iopl": (172, "3"),
    "ioperm": (173, "0x378, 3, 1"),
    "modify_ldt": (154, "0, 0, 0"),
    "settimeofday": (164, "0, 0"),
    "clock_settime": (227, "0, 0"),
    "kcmp": (312, "1, 1, 0, 0, 0"),
    "pidfd_getfd": (438, "0, 0, 0"),
    "personality_read_implies_exec": (135, "0x0400000"),
    "vhangup": (153, ""),
    "sethostname": (170, "b'x', 1"),
}
NEW = ("lsm_set_self_attr", "open_tree_attr")
"""Where an engine's libseccomp does not know these yet, runc answers for all that it does not know."""
ABSENT = {
    "clone3": (435, "0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "io_uring_enter": (426, "0, 0, 0, 0, 0, 0"),
    "io_uring_register": (427, "0, 0, 0, 0"),
    "io_setup": (206, "1, ctypes.byref(ctypes.c_ulong(0))"),
    "memfd_secret": (447, "0"),
    "cachestat": (451, "0, 0, 0, 0"),
    "process_madvise": (440, "0, 0, 0, 12, 0"),
}
HUGE = {
    "mmap": (9, "0, 2**21, 3, 0x40022, -1, 0"),
    "memfd_create": (319, "b'x', 4"),
    "shmget": (29, "0, 2**21, 0o5600"),
}
# By level, then name: filters that the kernel compiles, keys and lists that it keeps.
OPTIONS = {
    "SO_ATTACH_FILTER": (1, 26),
    "SO_ATTACH_BPF": (1, 50),
    "SO_ATTACH_REUSEPORT_CBPF": (1, 51),
    "SO_ATTACH_REUSEPORT_EBPF": (1, 52),
    "SO_TIMESTAMP": (1, 29),
    "SO_TIMESTAMPING": (1, 37),
    "SO_ZEROCOPY": (1, 60),
    "TCP_MD5SIG": (6, 14),
    "TCP_ULP": (6, 31),
    "TCP_AO_ADD_KEY": (6, 38),
    "UDP_ENCAP": (17, 100),
    "IP_OPTIONS": (0, 4),
    "IP_ADD_MEMBERSHIP": (0, 35),
    "IP_MSFILTER": (0, 41),
    "MCAST_JOIN_SOURCE_GROUP": (0, 46),
    "IPT_SO_SET_REPLACE": (0, 64),
    "IPV6_ADD_MEMBERSHIP": (41, 20),
    "IPV6_JOIN_ANYCAST": (41, 27),
    "IPV6_FLOWLABEL_MGR": (41, 32),
    "IPV6_HOPOPTS": (41, 54),
    "SOL_TLS": (282, 1),
    "SOL_MPTCP": (284, 1),
    "packet_ring": (263, 5),
}


@pytest.mark.parametrize("name", DENIED)
async def test_dangerous_system_call_is_refused(lab: Lab, name: str) -> None:
    number, arguments = DENIED[name]
    outcome = await lab.python(f"syscall({number}, {arguments})")
    if "own-kernel" in lab.sandbox.holds:  # it refuses in words of its own
        assert outcome.stdout.startswith(b"E"), outcome
    else:
        assert outcome.stdout in [b"EPERM\n", *[b"ENOSYS\n"] * (name in NEW)], outcome


@pytest.mark.parametrize("name", ABSENT)
async def test_call_that_libraries_do_without_is_absent(lab: Lab, name: str) -> None:
    number, arguments = ABSENT[name]
    outcome = await lab.python(f"syscall({number}, {arguments})")
    if "own-kernel" in lab.sandbox.holds:
        assert outcome.stdout in (b"ENOSYS\n", b"EPERM\n"), outcome
    else:
        assert outcome.stdout == b"ENOSYS\n", outcome


@pytest.mark.parametrize("name", HUGE)
async def test_huge_pages_of_the_machine_are_out_of_reach(lab: Lab, name: str) -> None:
    """They are reserved for somebody, and no control group of ours counts them."""
    number, arguments = HUGE[name]
    outcome = await lab.python(f"syscall({number}, {arguments})")
    assert outcome.stdout == b"ENOMEM\n", outcome


async def test_socket_options_that_the_kernel_keeps_or_compiles_are_refused(lab: Lab) -> None:
    """With values that the kernel itself would refuse, so that EPERM is the policy's word."""
    outcome = await lab.python(
        f"""
        high = 1 << 40
        for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            fd = socket.socket(family, socket.SOCK_DGRAM).fileno()
            for name, (level, number) in {OPTIONS!r}.items():
                for one, two in ((level, number), (level, high | number), (high | level, number)):
                    ctypes.set_errno(0)
                    libc.syscall(54, fd, ctypes.c_ulong(one), ctypes.c_ulong(two), None, 0)
                    if ctypes.get_errno() != errno.EPERM: print(name, family, ctypes.get_errno())
        print("all tried")
        """
    )
    assert outcome.stdout == b"all tried\n", outcome


async def test_pages_are_not_merged_with_those_of_others(lab: Lab) -> None:
    """Whether they were would tell what lies in a neighbour's memory."""
    outcome = await lab.python("syscall(28, 0, 0, 12); syscall(157, 67, 1, 0, 0, 0)")
    assert outcome.stdout == b"EINVAL\n" * 2, outcome


async def test_disks_of_the_machine_are_not_written_out(lab: Lab) -> None:
    """Success without doing anything: even a descriptor that cannot be is no error."""
    outcome = await lab.python("syscall(162); syscall(306, 999)")
    assert outcome.stdout == b"DONE 0\n" * 2, outcome


async def test_high_bits_do_not_smuggle_flags_past_the_policy(lab: Lab) -> None:
    """The kernel reads 32 bits of these arguments; a filter that compares 64 is fooled."""
    outcome = await lab.python(
        """
        high = 1 << 40
        for number, *arguments in (
            (41, ctypes.c_ulong(high | socket.AF_PACKET), 3, 0),
            (41, ctypes.c_ulong(high | socket.AF_VSOCK), 1, 0),
            (135, ctypes.c_ulong(high | 0x0400000)),
            (16, 0, ctypes.c_ulong(high | 0x5412), b"x"),
            (41, 2, ctypes.c_ulong(high | 5), 0),
            (41, 2, 1, ctypes.c_ulong(high | 132)),
            (53, ctypes.c_ulong(high | socket.AF_ALG), 5, 0, ctypes.c_buffer(8)),
            (157, ctypes.c_ulong(high | 22), 2, 0),
            (157, ctypes.c_ulong(high | 62), 1, 0, 0, 0),
        ): syscall(number, *arguments)
        """
    )
    assert outcome.stdout == b"EPERM\n" * 9, outcome


async def test_clone_with_high_bits_makes_no_namespace(lab: Lab) -> None:
    outcome = await lab.python(
        """
        before = os.readlink("/proc/self/ns/user")
        pid = libc.syscall(56, ctypes.c_ulong(1 << 40 | 0x10000000 | 17), 0, 0, 0, 0)
        if pid == 0: os._exit(os.readlink("/proc/self/ns/user") != before)
        print("refused" if pid == -1 else os.waitstatus_to_exitcode(os.wait()[1]))
        """
    )
    assert outcome.stdout in (b"refused\n", b"0\n"), outcome


@pytest.mark.parametrize("request_number", [0x5412, 0x541C], ids=["TIOCSTI", "TIOCLINUX"])
async def test_typing_into_a_terminal_is_refused(lab: Lab, request_number: int) -> None:
    outcome = await lab.python(f"syscall(16, 0, {request_number}, b'x')")
    assert outcome.stdout == b"EPERM\n"


async def test_32_bit_system_call_ends_the_program(lab: Lab) -> None:
    outcome = await lab.c(
        """
        int main(void) {
            int result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
            return 0;
        }
        """
    )
    assert (outcome.exit_code, outcome.signal) == (None, "SIGSYS")


async def test_x32_system_call_ends_the_program(lab: Lab) -> None:
    """Where a kernel has x32, its numbers would lead to every call past a list of those of x86-64."""
    outcome = await lab.c(
        """
        #define _GNU_SOURCE
        #include <unistd.h>
        #include <sys/syscall.h>
        int main(void) { return syscall(0x40000000 | SYS_getpid) == -1; }
        """
    )
    assert (outcome.exit_code, outcome.signal) == (None, "SIGSYS")


async def test_coredump_is_not_written(lab: Lab) -> None:
    outcome = await lab.python(
        """
        if os.fork() == 0: os.abort()
        _, status = os.wait(); print(os.WCOREDUMP(status), os.listdir("."))
        """
    )
    assert outcome.stdout == b"False ['main.py']\n"


async def test_crash_starts_no_core_dump_handler_of_the_machine(lab: Lab) -> None:
    """systemd-coredump, apport and the like run outside of the jail, as root. The kernel starts them
    whatever the limit is, 0 included, but for 1. So the limit stays 1; who lowers it is told that it is
    done, since sanitizers and `ulimit -c 0` insist."""
    outcome = await lab.python(
        """
        import resource
        for limit in (0, 0), (0, 1), (1, 1):
            resource.setrlimit(resource.RLIMIT_CORE, limit)
            try: resource.prlimit(0, resource.RLIMIT_CORE, limit)
            except (OSError, ValueError) as error: print("refused")
            for high in 0, 1 << 40:
                syscall(160, ctypes.c_ulong(high | resource.RLIMIT_CORE), bytes(16))
                syscall(302, 0, ctypes.c_ulong(high | resource.RLIMIT_CORE), bytes(16), None)
            print(resource.getrlimit(resource.RLIMIT_CORE))
        """
    )
    once = b"refused\n" + b"DONE 0\n" * 4 + b"(1, 1)\n"
    assert outcome.stdout == once * 3, outcome


async def test_threads_start_although_clone3_is_absent(lab: Lab) -> None:
    outcome = await lab.python(
        """
        threads = [threading.Thread(target=print, args=("fine",)) for _ in range(3)]
        for thread in threads: thread.start(); thread.join()
        """
    )
    assert outcome.stdout == b"fine\n" * 3


async def test_programs_may_trace_their_own_children(lab: Lab) -> None:
    """Sanitizers and debuggers need it."""
    outcome = await lab.python(
        """
        pid = os.fork()
        if pid == 0:
            libc.ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP); os._exit(5)
        os.waitpid(pid, 0); libc.ptrace(7, pid, 0, 0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        replace(SHORT, wall_time=5.0),
    )
    assert outcome.stdout == b"5\n", outcome
