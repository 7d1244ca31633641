"""Hostile programs that want to talk to anybody."""

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
import trio
from sandboxed import SHORT, Feed, Lab

pytestmark = pytest.mark.promise


@pytest.fixture
def listener(language_cache: object) -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.setblocking(False)
        yield server


def connections(listener: socket.socket) -> int:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return 0
    return 1


async def test_connecting_to_the_hosts_loopback_is_refused(
    listener: socket.socket, lab: Lab
) -> None:
    port = listener.getsockname()[1]
    outcome = await lab.python(f"tell(socket.create_connection, ('127.0.0.1', {port}), 2)")
    assert outcome.stdout.decode().strip() in {"ENETUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL"}
    assert connections(listener) == 0


@pytest.mark.parametrize("address", ["1.1.1.1", "10.0.0.1", "172.17.0.1", "169.254.169.254"])
async def test_connecting_outside_is_refused(lab: Lab, address: str) -> None:
    outcome = await lab.python(
        f"""
        tell(socket.create_connection, ("{address}", 80), 2)
        tell(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b"x", ("{address}", 53))
        """
    )
    assert outcome.stdout in (b"ENETUNREACH\n" * 2, b"EHOSTUNREACH\n" * 2), outcome


async def test_connecting_outside_by_ipv6_is_refused(lab: Lab) -> None:
    outcome = await lab.python(
        """
        out = socket.socket(socket.AF_INET6)
        tell(out.connect, ("2606:4700:4700::1111", 80))
        tell(out.connect, ("::ffff:127.0.0.1", 80))
        """
    )
    assert b"DONE" not in outcome.stdout


async def test_names_do_not_resolve(lab: Lab) -> None:
    outcome = await lab.python(
        """
        for name in ("example.org", "redis", "rabbitmq"):
            try: print("DONE", socket.getaddrinfo(name, 80))
            except socket.gaierror as error: print("refused")
        """
    )
    assert outcome.stdout == b"refused\n" * 3


@pytest.mark.parametrize(
    "family", ["AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH", "AF_CAN", "AF_TIPC"]
)
async def test_other_kinds_of_sockets_are_refused(lab: Lab, family: str) -> None:
    outcome = await lab.python(f"tell(socket.socket, socket.{family}, socket.SOCK_RAW)")
    assert outcome.stdout in refusals(lab), outcome


def refusals(lab: Lab) -> set[bytes]:
    """The machine's kernel, which might load a module first, is not asked. A program's own kernel may be."""
    own = {b"EAFNOSUPPORT\n", b"EINVAL\n", b"EPROTONOSUPPORT\n"}
    return {b"EPERM\n"} | (own if "own-kernel" in lab.sandbox.holds else set())


async def test_raw_sockets_are_refused(lab: Lab) -> None:
    outcome = await lab.python("tell(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)")
    assert outcome.stdout == b"EPERM\n"


@pytest.mark.parametrize(
    "kind",
    [
        "AF_INET, SOCK_STREAM, 132",  # SCTP
        "AF_INET, SOCK_STREAM, 262",  # MPTCP
        "AF_INET, 6, 33",  # DCCP
        "AF_INET, SOCK_DGRAM, 1",  # ICMP
        "AF_INET, SOCK_DGRAM, 115",  # L2TP
        "AF_INET, SOCK_DGRAM, 136",  # UDP-Lite
        "AF_INET6, SOCK_STREAM, 132",
        "AF_INET6, SOCK_SEQPACKET, 132",
        "AF_INET6, SOCK_DGRAM, 58",
    ],
)
async def test_protocols_that_load_kernel_modules_are_refused(lab: Lab, kind: str) -> None:
    outcome = await lab.python(f"from socket import *\ntell(socket, {kind})")
    assert outcome.stdout in refusals(lab), outcome


async def test_netlink_answers_about_the_jail_alone(lab: Lab) -> None:
    """Of its protocols only the one by which getifaddrs asks; and nothing can be set by that."""
    outcome = await lab.python(
        """
        import struct
        for protocol in range(1, 32):
            try: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            except PermissionError: continue
            print("DONE", protocol)
        def ask(kind, flags, body):
            route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            route.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
            answer = route.recv(65536)
            size, kind = struct.unpack_from("=IH", answer)
            return os.strerror(-struct.unpack_from("=i", answer, 16)[0]) if kind == 2 else kind
        print(ask(18, 0x301, struct.pack("=BxHiII", 0, 0, 0, 0, 0)), "link shown")
        print(ask(16, 0x605, struct.pack("=BxHiII", 0, 0, 0, 0, 0)), "for a new link")
        print(ask(16, 5, struct.pack("=BxHiII", 0, 0, 1, 0, 1)), "for link down")
        print(ask(24, 0x605, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0)), "for a route")
        print(ask(36, 0x605, struct.pack("=BxHiIII", 0, 0, 1, 0, 0xffffffff, 0)), "for a qdisc")
        print(socket.if_nameindex())
        """
    )
    refused = "Operation not permitted for "
    assert outcome.stdout.decode().splitlines() == [
        "16 link shown",
        *(refused + what for what in ("a new link", "link down", "a route", "a qdisc")),
        "[(1, 'lo')]",
    ], outcome


async def test_loopback_of_its_own_works_and_is_its_own(lab: Lab) -> None:
    """A server and its client in one program; two programs do not meet."""
    outcome = await lab.python(
        """
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = socket.create_server((address, 8080), family=family)
            client = socket.create_connection((address, 8080)); client.send(b"hello")
            print(server.accept()[0].recv(9))
            one, two = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
            one.bind((address, 8080)); two.sendto(b"hello", (address, 8080)); print(one.recv(9))
        """
    )
    assert outcome.stdout == b"b'hello'\n" * 4, outcome
    async with trio.open_nursery() as nursery:
        feed = Feed()
        nursery.start_soon(partial(lab.python, feed=feed), SERVER)
        await feed.output.wait()
        outcome = await lab.python(
            """
            tell(socket.create_connection, ("127.0.0.1", 8080))
            tell(socket.create_connection, ("::1", 8080))
            """
        )
        feed.stop.set()
    assert outcome.stdout == b"ECONNREFUSED\n" * 2


SERVER = """
server = socket.create_server(("127.0.0.1", 8080)); server6 = socket.create_server(("::1", 8080), family=10)
print("open", flush=True); time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
async def test_what_waits_in_sockets_counts_as_memory(lab: Lab, kind: str) -> None:
    """The machine has one bound for all of it (tcp_mem, udp_mem): a neighbour's connections would stall."""
    outcome = await lab.python(
        f"""
        server, held, waiting = socket.create_server(("127.0.0.1", 0)), [], 0
        def pair():
            if socket.{kind} == socket.SOCK_STREAM:
                return socket.create_connection(server.getsockname()), server.accept()[0]
            one, two = (socket.socket(socket.AF_INET, socket.{kind}) for _ in range(2))
            two.bind(("127.0.0.1", 0)); one.connect(two.getsockname())
            return one, two
        def fill(one):
            for _ in range(200): one.send(bytes(2**15))
        try:
            for _ in range(120):
                held.append(pair()); held[-1][0].setblocking(False)
                try: fill(held[-1][0])
                except BlockingIOError: pass
        except OSError as error: print(error)
        for one, two in held:
            two.setblocking(False)
            try:
                while data := two.recv(2**16): waiting += len(data)
            except BlockingIOError: pass
        print(waiting)
        """,
        replace(SHORT, memory=16 * 2**20),
    )
    if outcome.limit == "memory":  # cgroup v2 ends the program
        return
    assert outcome.succeeded, outcome
    assert int(outcome.stdout.split()[-1]) < 18 * 2**20, outcome


async def test_no_route_leads_anywhere(lab: Lab) -> None:
    outcome = await lab.python("print(len(open('/proc/net/route').readlines()[1:]))")
    assert outcome.stdout == b"0\n"


async def test_abstract_socket_of_the_host_is_out_of_reach(
    nothing_left_over: None, lab: Lab
) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind("\0occd-test-abstract")
        server.listen()
        server.setblocking(False)
        outcome = await lab.python(
            r"""
            tell(socket.socket(socket.AF_UNIX).connect, "\0occd-test-abstract")
            print(open("/proc/net/unix").read().count("occd-test"))
            """
        )
        assert outcome.stdout == b"ECONNREFUSED\n0\n"
        assert connections(server) == 0


async def test_socketpairs_and_unix_sockets_of_its_own_work(lab: Lab) -> None:
    outcome = await lab.python(
        """
        a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1))
        server = socket.socket(socket.AF_UNIX); server.bind("here"); server.listen(); print("fine")
        """
    )
    assert outcome.stdout == b"b'x'\nfine\n"
