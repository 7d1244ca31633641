"""What an attempt's output becomes on its way into the event log (`occd/execution/eventlog.py`)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from occd.events import Event, Output, Stage
from occd.execution.eventlog import EventLog
from occd.model import COMPILE, RUN, Step, Stream

EVENT_BYTES = 32 * 1024


class Store:
    """An event store that notes when it was given what; `gate` closed, it is slow."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, list[Event]]] = []
        self.gate = trio.Event()
        self.gate.set()

    async def append(self, events: Sequence[Event]) -> None:
        await self.gate.wait()
        self.batches.append((trio.current_time(), list(events)))

    @property
    def events(self) -> list[Event]:
        return [event for _, batch in self.batches for event in batch]

    def data(self, stream: Stream = "stdout") -> list[bytes]:
        return [e.data for e in self.events if isinstance(e, Output) and e.stream == stream]


def logged(
    scenario: Callable[[EventLog, Store], Awaitable[None]],
    followed: Callable[[], bool] = lambda: True,
) -> Store:
    """Run a scenario to the end of its log, in a time of its own."""
    store = Store()

    async def main() -> None:
        log = EventLog(followed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run, store.append)
            await scenario(log, store)
            await log.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return store


text_or_bytes = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"\xf0\x9f", b"\x98\x80", b"\xe2\x82", b"\xac", b"\x80" * 5]),
    st.integers(1, 3).map(lambda times: ("x" + "€" * 11_000 * times).encode()),
)


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), text_or_bytes, st.booleans())),
)
def test_any_emits_join_again_to_exactly_what_was_written(
    emits: list[tuple[Stream, bytes, bool]],
) -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        for stream, data, pause in emits:
            log.emit(RUN, stream, data)
            if pause:
                await trio.sleep(0.03)

    store = logged(scenario)
    for stream in ("stdout", "stderr"):
        written = b"".join(data for name, data, _ in emits if name == stream)
        assert b"".join(store.data(stream)) == written
        assert all(0 < len(data) <= EVENT_BYTES for data in store.data(stream))


@given(st.text(min_size=1), st.integers(1, 30_000), st.data())
def test_no_event_splits_a_character(some: str, times: int, data: st.DataObject) -> None:
    whole = (some * times).encode()[: 2**18].decode(errors="ignore").encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8).map(sorted))

    async def scenario(log: EventLog, store: Store) -> None:
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            log.emit(RUN, "stdout", whole[start:end])
            await trio.sleep(0.03)

    events = logged(scenario).data()
    assert b"".join(events) == whole
    for event in events:
        event.decode()


@given(st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["start", "end"])), max_size=30))
def test_stages_and_output_keep_their_order(
    steps: list[int | str],
) -> None:
    expected: list[tuple[str, bytes]] = []

    async def scenario(log: EventLog, store: Store) -> None:
        for number, step in enumerate(steps):
            if isinstance(step, str):
                phase: Literal["start", "end"] = "start" if step == "start" else "end"
                stage = Stage("compile" if number % 2 else "run", phase)
                expected.append((stage.stage, phase.encode()))
                log.put(stage.step, stage)
            else:
                expected.append(("", b"%d," % number))
                log.emit(RUN, "stdout", b"%d," % number)
            if step == 3:
                await trio.sleep(0.03)

    store = logged(scenario)
    found = [
        ("", event.data) if isinstance(event, Output) else (event.stage, event.phase.encode())
        for event in store.events
        if isinstance(event, Output | Stage)
    ]
    assert _joined(found) == _joined(expected)


def _joined(steps: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Neighbouring output is one."""
    joined: list[tuple[str, bytes]] = []
    for stage, what in steps:
        if joined and not stage and not joined[-1][0]:
            joined[-1] = ("", joined[-1][1] + what)
        else:
            joined.append((stage, what))
    return joined


def test_output_belongs_to_the_stage_that_wrote_it() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        log.put(COMPILE, Stage("compile", "start"))
        log.emit(COMPILE, "stderr", b"warning \xe2\x82")
        log.put(COMPILE, Stage("compile", "end"))
        log.put(RUN, Stage("run", "start"))
        log.emit(RUN, "stderr", b"\xac hello")
        await trio.lowlevel.checkpoint()

    outputs = [event for event in logged(scenario).events if isinstance(event, Output)]
    assert [(each.stage, each.data) for each in outputs] == [
        ("compile", b"warning \xe2\x82"),
        ("run", b"\xac hello"),
    ]


def test_the_first_line_leaves_at_once_and_what_follows_goes_together() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        began = trio.current_time()
        for _ in range(20):
            log.emit(RUN, "stdout", b"x\n")
            await trio.sleep(0.001)
        await trio.sleep(1)
        times = [at - began for at, _ in store.batches]
        assert times == pytest.approx([0, 0.02], abs=0.0005)

    assert logged(scenario).data() == [b"x\n", b"x\n" * 19]


def test_a_line_written_in_two_parts_is_one_event_and_a_prompt_hardly_waits() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        for _ in range(3):
            log.emit(RUN, "stdout", b"6")
            await trio.sleep(0.0001)
            log.emit(RUN, "stdout", b"\n")
            await trio.sleep(0.05)
        began = trio.current_time()
        log.emit(RUN, "stdout", b"name? ")
        await trio.sleep(1)
        assert store.batches[-1][0] - began == pytest.approx(0.002, abs=0.0005)

    assert logged(scenario).data() == [b"6\n"] * 3 + [b"name? "]


def test_a_full_event_does_not_wait() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        log.emit(RUN, "stdout", b"first")
        await trio.sleep(0.003)
        log.emit(RUN, "stdout", b"x" * EVENT_BYTES)
        await trio.sleep(0.001)
        assert store.data() == [b"first", b"x" * EVENT_BYTES]

    logged(scenario)


def test_a_slow_store_blocks_nobody_and_gets_everything_in_order() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        store.gate = trio.Event()
        began = trio.current_time()
        for number in range(1000):
            log.emit(RUN, "stdout", b"%d " % number)
        log.put(RUN, Stage("run", "end"))
        assert trio.current_time() == began
        await trio.sleep(10)
        assert store.batches == []
        store.gate.set()

    store = logged(scenario)
    assert b"".join(store.data()) == b"".join(b"%d " % number for number in range(1000))
    assert store.events[-1] == Stage("run", "end")


def test_what_nobody_follows_gathers_for_longer() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        began = trio.current_time()
        for _ in range(50):
            log.emit(RUN, "stdout", b"x\n")
            await trio.sleep(0.005)
        times = [at - began for at, _ in store.batches]
        assert times == pytest.approx([0.1, 0.22], abs=0.01)
        log.emit(RUN, "stdout", b"y" * EVENT_BYTES)
        await trio.sleep(0.001)
        assert store.data()[-1].endswith(b"y")

    assert b"".join(logged(scenario, lambda: False).data()) == b"x\n" * 50 + b"y" * EVENT_BYTES


def test_a_follower_who_comes_later_sees_the_next_line_at_once() -> None:
    here = False

    async def scenario(log: EventLog, store: Store) -> None:
        nonlocal here
        log.emit(RUN, "stdout", b"before\n")
        await trio.sleep(0.01)
        assert store.data() == []
        here = True
        log.emit(RUN, "stdout", b"now\n")
        await trio.sleep(0.001)
        assert store.data() == [b"before\nnow\n"]

    logged(scenario, lambda: here)


def test_the_rest_of_a_log_is_taken_once_and_comes_after_what_is_being_appended() -> None:
    store, rest = Store(), []

    async def main() -> None:
        log = EventLog()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run, store.append)
            store.gate = trio.Event()
            log.emit(RUN, "stdout", b"first\n")
            await trio.sleep(1)
            log.emit(RUN, "stdout", b"rest \xe2")
            log.look()
            nursery.start_soon(open_later, store.gate)
            rest.extend(await log.take_rest())
            assert store.data() == [b"first\n"]

    async def open_later(gate: trio.Event) -> None:
        await trio.sleep(1)
        gate.set()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [each.data for each in rest if isinstance(each, Output)] == [b"rest \xe2"]
    assert [len(events) for _, events in store.batches] == [1]


def test_half_a_character_waits_for_its_rest_but_not_beyond_the_end() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        log.emit(RUN, "stdout", b"\xe2")
        await trio.sleep(1)
        assert store.data() == []
        log.emit(RUN, "stdout", b"\x82")
        await trio.sleep(1)
        assert store.data() == []
        log.emit(RUN, "stdout", b"\xac\xf0\x9f")
        await trio.sleep(1)
        assert store.data() == ["€".encode()]

    assert logged(scenario).data() == ["€".encode(), b"\xf0\x9f"]


def test_a_look_appends_nothing_at_once_and_keeps_the_order() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        await trio.sleep(1)
        log.look()
        await trio.sleep(1)
        log.emit(RUN, "stdout", b"x")
        log.look()
        await trio.sleep(1)

    store = logged(scenario)
    assert [len(events) for _, events in store.batches] == [0, 1]


def test_a_log_without_output_ends() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        await trio.sleep(1)

    assert logged(scenario).batches == []


def test_streams_keep_the_order_in_which_they_were_written() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        for number in range(1, 5):
            log.emit(RUN, "stdout", b"out %d\n" % number)
            log.emit(RUN, "stderr", b"err %d" % number)
            log.emit(RUN, "stderr", b"\n")

    outputs = [event for event in logged(scenario).events if isinstance(event, Output)]
    assert [each.data for each in outputs] == [
        b"%s %d\n" % (name, number) for number in range(1, 5) for name in (b"out", b"err")
    ]


def test_a_character_that_the_other_stream_cuts_in_two_is_whole() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        log.emit(RUN, "stdout", b"a\xe2\x82")
        log.emit(RUN, "stderr", b"b")
        log.emit(RUN, "stdout", b"\xac")

    outputs = [event for event in logged(scenario).events if isinstance(event, Output)]
    assert [(each.stream, each.data) for each in outputs] == [
        ("stdout", b"a"),
        ("stderr", b"b"),
        ("stdout", "€".encode()),
    ]


def test_a_program_that_changes_its_stream_at_every_byte_makes_few_events() -> None:
    async def scenario(log: EventLog, store: Store) -> None:
        for number in range(100_000):
            log.emit(RUN, "stdout", b"x")
            log.emit(RUN, "stderr", b"y")
            if number % 1000 == 0:
                await trio.sleep(0.03)

    store = logged(scenario)
    assert len(store.events) < 5000
    assert b"".join(store.data("stdout")) == b"x" * 100_000
    assert b"".join(store.data("stderr")) == b"y" * 100_000


def test_a_thousand_tests_that_change_their_stream_at_every_byte_make_few_events() -> None:
    """Each of them stays below its own bound."""

    async def scenario(log: EventLog, __: Store) -> None:
        for at in range(1000):
            step = Step("run", test=at)
            log.put(step, Stage("run", "start", test=at))
            for _ in range(250):
                log.emit(step, "stdout", b"o")
                log.emit(step, "stderr", b"e")
            log.put(step, Stage("run", "end", test=at))
            await trio.sleep(0.001)

    store = logged(scenario)
    assert len(b"".join(store.data())) == len(b"".join(store.data("stderr"))) == 250_000
    assert len(store.events) < 80_000
