"""Clients that submit one program after the other, and send each again until it is accepted."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from serving import PATIENCE_S, Server

_PAUSE_S = 0.2
"""Between two submissions of a client: what is accepted has to be run, and a test waits for it."""


@dataclass
class Load:
    server: Server
    accepted: dict[str, str] = field(default_factory=dict)
    """By id: the word that the program writes."""
    problems: Counter[str] = field(default_factory=Counter)
    """How often each was told."""
    _stop: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _failed: list[BaseException] = field(default_factory=list)

    def until(self, more: int) -> None:
        """Until so many more are accepted."""
        wanted, deadline = len(self.accepted) + more, time.monotonic() + PATIENCE_S
        while len(self.accepted) < wanted:
            assert not self._failed, self._failed
            assert time.monotonic() < deadline, self.problems
            time.sleep(0.02)

    def check(self) -> None:
        """Every program that was accepted has run, once."""
        for id, word in self.accepted.items():
            result = self.server.result(id)
            assert (result["verdict"], result["run"]["stdout"]) == ("ok", f"{word}\n"), result
            assert result["attempts"] == 1

    def client(self, name: str) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                number += 1
                self._submit(f"{name}-{number}")
                self._stop.wait(_PAUSE_S)
        except BaseException as error:
            self._failed.append(error)
            raise

    def _submit(self, word: str) -> None:
        body = json.dumps({"language": "python", "source": f"print({word!r})"}).encode()
        while True:
            answer = self.server.post(body, Idempotency_Key=word)
            if answer.status == 202:
                with self._lock:
                    self.accepted[answer.json()["id"]] = word
                return
            assert answer.status == 503, answer.body
            assert answer.headers["Retry-After"]
            with self._lock:
                self.problems[answer.json()["type"]] += 1
            if self._stop.wait(_PAUSE_S):
                return


@contextmanager
def load(server: Server, clients: int = 3) -> Iterator[Load]:
    """While inside."""
    found = Load(server)
    threads = [Thread(target=found.client, args=[f"c{each}"]) for each in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found._stop.set()
        for thread in threads:
            thread.join()
    assert not found._failed, found._failed
