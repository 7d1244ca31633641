"""Hostile programs that want to talk to anybody."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from sandboxed import Lab


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
    assert outcome.stdout == b"ENETUNREACH\nENETUNREACH\n"


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
    "family", ["AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_NETLINK", "AF_BLUETOOTH", "AF_CAN", "AF_TIPC"]
)
async def test_other_kinds_of_sockets_are_refused(lab: Lab, family: str) -> None:
    outcome = await lab.python(f"tell(socket.socket, socket.{family}, socket.SOCK_RAW)")
    assert outcome.stdout == b"EPERM\n"


async def test_raw_sockets_are_refused(lab: Lab) -> None:
    outcome = await lab.python("tell(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)")
    assert outcome.stdout == b"EPERM\n"


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
