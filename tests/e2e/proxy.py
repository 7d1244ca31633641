"""A proxy that shows a site below a path of another, and takes the path away."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def _pipe(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)


def _serve(client: socket.socket, port: int, path: bytes, astray: list[str]) -> None:
    with client, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return
            head += data
        method, asked, rest = head.split(b" ", 2)
        if not asked.startswith(path + b"/"):
            astray.append(asked.decode())
            client.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
            return
        if b"upgrade: websocket" not in rest.lower():  # one request a connection
            rest = rest.replace(b"\r\nConnection: keep-alive", b"\r\nConnection: close", 1)
        with socket.create_connection(("127.0.0.1", port)) as server:
            server.sendall(b" ".join((method, asked.removeprefix(path), rest)))
            up = threading.Thread(target=_pipe, args=(client, server))
            up.start()
            _pipe(server, client)
            client.close()
            up.join()


@contextmanager
def proxy(port: int, path: str) -> Iterator[tuple[int, list[str]]]:
    """Its port, and what was asked for beside the path."""
    astray: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                arguments = (client, port, path.encode(), astray)
                threading.Thread(target=_serve, args=arguments, daemon=True).start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1], astray
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
