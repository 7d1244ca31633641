"""Every way to follow a submission tells state that somebody is there."""

import ctypes
import json
import socket
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from in_process import API, PATIENCE_S, UPGRADE, edge, frame
from trio.testing import MockClock

from occd.errors import StateUnavailable
from occd.roles.following import Following
from occd.roles.ws import Ws
from occd.state import Presence, State
from occd.state.embedded.presence import EmbeddedPresence
from occd.web.budget import Budget, Held, Shares
from occd.web.follow import Follower
from occd.web.server import KEEP_ALIVE_OPTIONS

SOON_S = 0.01
SO_ATTACH_FILTER = 26
ASKS = json.dumps({"language": "python", "source": "input()", "interactive": True}).encode()
GET = b"GET %b/submissions/%b%b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%b\r\n"


def following(id: bytes) -> dict[str, bytes]:
    """Requests that follow a submission until it has finished."""
    subscribe = {"type": "subscribe", "id": id.decode(), "after": 0}
    return {
        "websocket": UPGRADE + frame(json.dumps(subscribe).encode()),
        "sse": GET % (API, id, b"/events", b""),
        "ndjson": GET % (API, id, b"/events", b"Accept: application/x-ndjson\r\n"),
        "wait": GET % (API, id, b"?wait=60", b""),
    }


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """State is told of followers every few milliseconds."""
    monkeypatch.setattr("occd.roles.following.RENEW_S", SOON_S)
    monkeypatch.setattr("occd.roles.following.NEW_S", SOON_S)


async def until(condition: bool, state: State, id: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while await state.presence.here(id) != condition:  # noqa: ASYNC110  (time alone changes it)
            await trio.sleep(0.01)


@pytest.mark.parametrize("way", following(b""))
@pytest.mark.usefixtures("soon")
async def test_a_follower_is_told_to_state_until_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("occd.state.embedded.presence.PRESENT_S", 0.5)
    async with edge(tmp_path) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.ws.run)
        nursery.start_soon(server.submit.run)
        followed, other = [(await server.post(ASKS))[1]["id"] for _ in range(2)]
        asked = following(followed.encode())[way]
        nursery.start_soon(server.exchange, asked, b'"cancelled"')
        await until(True, server.state, followed)
        assert not await server.state.presence.here(other)
        await server.state.submissions.cancel(followed)
        await until(False, server.state, followed)
        server.ws.stopping.set()
        server.submit.stopping.set()


def vanish(client: socket.socket) -> None:
    """From now on the client's kernel drops what comes, and confirms nothing, as behind a cut cable."""
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(nothing))
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@pytest.mark.usefixtures("soon")
async def test_a_client_that_vanished_is_no_follower_although_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel asks nobody whether it lives to whom something is on its way."""
    options = [
        (level, option, 1000 if option == socket.TCP_USER_TIMEOUT else value)
        for level, option, value in KEEP_ALIVE_OPTIONS
    ]
    monkeypatch.setattr("occd.web.server.KEEP_ALIVE_OPTIONS", options)
    monkeypatch.setattr("occd.web.stream.ALIVE_S", 0.1)
    monkeypatch.setattr("occd.state.embedded.presence.PRESENT_S", 0.5)
    async with edge(tmp_path) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.ws.run)
        id = (await server.post(ASKS))[1]["id"]
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(following(id.encode())["sse"])
            await until(True, server.state, id)
            vanish(client)
            await until(False, server.state, id)
        server.ws.stopping.set()


class Told:
    """A presence that cannot be told for some times. `enough` is set at a number of times."""

    def __init__(self, enough: int, away: int = 0) -> None:
        self.told: list[set[str]] = []
        self.enough = trio.Event()
        self._enough = enough
        self._away = away

    async def touch(self, subjects: set[str]) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(subjects)
        if len(self.told) == self._enough:
            self.enough.set()
        if len(self.told) <= self._away:
            raise StateUnavailable("it is away", 1)


@pytest.mark.usefixtures("soon")
async def test_a_follower_is_there_while_it_reads(tmp_path: Path) -> None:
    """A client that reads slowly gets one batch of events for minutes, and waits for no news meanwhile."""
    presence, reads = Told(enough=3), trio.Event()

    async def read(_frame: object) -> None:
        reads.set()
        await trio.sleep_forever()

    async with edge(tmp_path) as server, trio.open_nursery() as nursery:
        id = (await server.post(ASKS))[1]["id"]
        ws = Ws(replace(server.state, presence=cast(Presence, presence)), server.submit)
        follower = Follower(ws, Held(Budget(Shares()), "127.0.0.1", lambda: None))
        nursery.start_soon(follower.follow, id, 0, read)
        with trio.fail_after(PATIENCE_S):
            await reads.wait()
            nursery.start_soon(ws.run)
            await presence.enough.wait()
        nursery.cancel_scope.cancel()
    assert all(told == {id} for told in presence.told)


@pytest.mark.usefixtures("soon")
async def test_a_client_that_waits_again_and_again_is_there_in_between(tmp_path: Path) -> None:
    presence = Told(enough=2)
    async with edge(tmp_path) as server, trio.open_nursery() as nursery:
        asked, ended, waits = [(await server.post(ASKS))[1]["id"] for _ in range(3)]
        following = Following(replace(server.state, presence=cast(Presence, presence)))
        with trio.move_on_after(0.01):
            await following.settled(asked, 0)
        await server.state.submissions.cancel(ended)
        await following.settled(ended, 0)
        nursery.start_soon(following.settled, waits, 0)
        nursery.start_soon(following.run)
        with trio.fail_after(PATIENCE_S):
            await presence.enough.wait()
        nursery.cancel_scope.cancel()
    assert presence.told[:2] == [{asked, waits}, {waits}]


@pytest.mark.usefixtures("soon")
async def test_an_outage_ends_no_telling(tmp_path: Path) -> None:
    presence = Told(enough=5, away=3)
    async with edge(tmp_path) as server, trio.open_nursery() as nursery:
        id = (await server.post(ASKS))[1]["id"]
        following = Following(replace(server.state, presence=cast(Presence, presence)))
        nursery.start_soon(following.run)
        nursery.start_soon(following.settled, id, 0)
        with trio.fail_after(PATIENCE_S):
            await presence.enough.wait()
        nursery.cancel_scope.cancel()
    assert all(told == {id} for told in presence.told)


async def test_state_that_takes_long_is_told_as_often(autojump_clock: MockClock) -> None:
    """An attempt asks again 20 s after a no, and a call to a state that is away takes 5 s and more."""
    told = []

    class Slow:
        async def touch(self, subjects: set[str]) -> None:
            told.append(trio.current_time())
            await trio.sleep(10)

    following = Following(cast(State, SimpleNamespace(presence=Slow())))
    began = trio.current_time()
    with following.following("id"), trio.move_on_after(50):
        await following.run()
    assert told == pytest.approx([began + 1, began + 16, began + 31, began + 46])


@pytest.mark.parametrize("phase", [0.3, 7, 14.7])
async def test_a_minute_counts_from_when_a_follower_left_and_ends_when_it_comes(
    autojump_clock: MockClock, phase: float
) -> None:
    """Also one that is there for less than a second, at whatever moment."""
    presence = EmbeddedPresence()
    following = Following(cast(State, SimpleNamespace(presence=presence)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(following.run)
        await trio.sleep(phase)
        with trio.move_on_after(0.2), following.following("id"):
            await trio.sleep_forever()
        await trio.sleep(60)
        assert await presence.here("id")
        await trio.sleep(1.1)
        assert not await presence.here("id")
        with following.following("id"):
            await trio.sleep(1.1)
            assert await presence.here("id")
        nursery.cancel_scope.cancel()
