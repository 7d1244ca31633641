"""A network between the page and its server that can be cut."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Stands between the page and its server, and can be cut as a network is."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._up = True
        self.pause_s = 0.0
        """Behind each 64 KiB at most, for all of it: the line is slow."""
        self._news, self._told = socket.socketpair()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._told, *self._pairs], [], [])
            if self._told in ready and not self._told.recv(1):
                return
            if not self._up:
                for each in self._pairs:
                    each.close()
                self._pairs.clear()
            for each in ready:
                if each is self._listener:
                    self._accept(each.accept()[0])
                elif each in self._pairs:
                    self._move(each, self._pairs[each])

    def _accept(self, client: socket.socket) -> None:
        if not self._up:
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._to))
        self._pairs |= {client: server, server: client}

    def _move(self, source: socket.socket, to: socket.socket) -> None:
        data = b""
        time.sleep(self.pause_s)
        with suppress(OSError):
            data = source.recv(65536)
            to.sendall(data)
        if not data:
            for each in (source, to):
                del self._pairs[each]
                each.close()

    def cut(self) -> None:
        self._up = False
        self._news.send(b"!")

    def mend(self) -> None:
        self._up = True

    def close(self) -> None:
        self._news.close()
        self._thread.join()
        for each in (*self._pairs, self._listener, self._told):
            each.close()


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    between = Relay(port)
    try:
        yield between
    finally:
        between.close()
