"""A real Prometheus scrapes a real installation under load: each query of a dashboard and each rule has data.
Each alert fires when its fault is made, and clears afterwards."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import pika
import pytest
from disks import fill, small
from packaged import PACKAGING
from prometheus import WINDOW_S, Prometheus, prometheus, rules
from rabbitmq_server import RabbitmqServer, rabbitmq
from redis_server import RedisServer, free_port, redis_server
from serving import API, PATIENCE_S, Server, serving, start, wait_open
from stuck import stick, stuck_nsjail

from occd.config import ROLES

APART, ONE, GOING = "occd", "occd-one", "occd-going"
KEY = "occd_" + "k" * 43
ACCOUNTS = json.dumps(
    {
        "anonymous": {"class": "visitor"},
        "default_class": "visitor",
        "classes": {"visitor": {"unfinished": 1000}, "small": {"runs_per_minute": 1}},
        "keys": [
            {
                "id": "small",
                "owner": "small",
                "class": "small",
                "sha256": sha256(KEY.encode()).hexdigest(),
            }
        ],
    }
)
SLEEP = "import time; time.sleep(250)"
LONG = {"wall_time": 300}


def expressions() -> Iterator[tuple[str, str]]:
    """Each query of a dashboard, with its board and panel."""
    for path in sorted((PACKAGING / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


@dataclass(frozen=True)
class Watched:
    """Two installations that Prometheus scrapes: roles apart, and one process that does everything."""

    prometheus: Prometheus
    broker: RabbitmqServer
    redis: RedisServer
    apart: dict[str, Server]
    one: Server
    disk: Path
    stuck: Path
    going: Callable[[], Server]
    """Starts a process that is scraped as the third installation."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    stuck = folder / "stuck"
    ports = {name: free_port() for name in (*ROLES, ONE, GOING)}
    listen = {name: f"127.0.0.1:{port}" for name, port in ports.items()}

    with ExitStack() as stack:
        broker = stack.enter_context(rabbitmq(folder / "rabbitmq"))
        redis = stack.enter_context(redis_server())
        disk = stack.enter_context(small(folder / "disk"))
        meeting: dict[str, Any] = {
            "rabbitmq__url": broker.url,
            "redis__url": redis.url,
            "languages": '["python", "c"]',
            "accounts": ACCOUNTS,
        }
        apart: dict[str, Server] = {
            role: stack.enter_context(
                serving(
                    folder / role,
                    roles=role,
                    execute__slots="2",
                    metrics__listen=listen[role],
                    **meeting,
                )
            )
            for role in ROLES
        }
        one = stack.enter_context(
            serving(
                disk / "data",
                execute__slots="1",
                queue__length_max="8",
                sandbox__nsjail=stuck_nsjail(folder, stuck),
                languages='["python"]',
                metrics__listen=listen[ONE],
            )
        )

        def going() -> Server:
            server = start(folder / "going", metrics__listen=listen[GOING])
            wait_open(server)
            return server

        jobs = {APART: [listen[role] for role in ROLES], ONE: [listen[ONE]]}
        scraping = prometheus(folder / "prometheus", jobs | {GOING: [listen[GOING]]})
        yield Watched(stack.enter_context(scraping), broker, redis, apart, one, disk, stuck, going)


@contextmanager
def load(watched: Watched) -> Iterator[None]:
    """A bit of everything that a client may send, again and again."""
    submit, socket = watched.apart["submit"], watched.apart["ws"]
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            id = submit.submit("print(1)")
            assert socket.get(f"{API}/submissions/{id}/events").status == 200
            submit.run("1 / 0")
            submit.run("int main() { return 0 }", language="c")
            submit.run("int main() { return 0; }", language="c")
            submit.post({"language": "klingon", "source": ""})
            submit.post({"language": "python", "source": ""}, authorization=f"Bearer {KEY}")
            submit.get("/nothing")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def until(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def fire_and_clear(watched: Watched, job: str, *alerts: str, mend: Callable[[], object]) -> None:
    """A fault has just been made; `mend` ends it, in every case, for the sake of the other tests."""
    try:
        for alert in alerts:
            watched.prometheus.until(job, alert, fires=True)
    finally:
        mend()
    for alert in alerts:
        watched.prometheus.until(job, alert, fires=False)


def test_each_query_has_data_under_load(watched: Watched) -> None:
    def has_data(expression: str) -> bool:
        return any(isfinite(value) for _, value in watched.prometheus.query(expression))

    wanted = [
        (
            panel,
            expression.replace("$__rate_interval", f"{WINDOW_S}s")
            .replace("$job", APART)
            .replace('instance="$instance"', 'instance=~".+"'),
        )
        for panel, expression in expressions()
    ]
    assert len(wanted) > 60
    wanted += [(each["record"], each["record"]) for each in rules("rules.yml")]
    with load(watched):
        deadline = time.monotonic() + 2 * PATIENCE_S
        while wanted := [each for each in wanted if not has_data(each[1])]:
            assert time.monotonic() < deadline, wanted
            time.sleep(1)


def test_each_query_is_of_a_known_installation(watched: Watched) -> None:
    """A query with a name or label that does not exist has no data, so the test above can fail."""
    assert watched.prometheus.query('sum(occd_slots{job="nobody"})') == []
    assert watched.prometheus.query(f'sum(occd_slots{{job="{APART}"}})')[0][1] == 2


@pytest.mark.long
def test_redis_gone(watched: Watched) -> None:
    watched.redis.kill()
    fire_and_clear(watched, APART, "OccdRedisGone", mend=watched.redis.start)


@pytest.mark.long
def test_rabbitmq_full(watched: Watched) -> None:
    set_mark = "vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {}}})"
    watched.broker.evaluate(set_mark.format(1000))
    post = threading.Thread(
        target=watched.apart["submit"].post, args=({"language": "python", "source": ""},)
    )
    post.start()  # RabbitMQ tells only those who publish
    fire_and_clear(
        watched,
        APART,
        "OccdRabbitmqGone",
        mend=lambda: watched.broker.evaluate(set_mark.format(2 * 10**9)),
    )
    post.join()


@pytest.mark.long
def test_rabbitmq_gone(watched: Watched) -> None:
    watched.broker.kill()
    fire_and_clear(watched, APART, "OccdRabbitmqGone", mend=watched.broker.start)


@pytest.mark.long
def test_dead_letters(watched: Watched) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(watched.broker.url))
    connection.channel().basic_publish(
        "", "submission_queue", b"nobody reads this", pika.BasicProperties(correlation_id="poison")
    )
    connection.close()
    fire_and_clear(watched, APART, "OccdDeadLetters", mend=lambda: None)


@pytest.mark.long
def test_the_loop_is_late(watched: Watched) -> None:
    """The process is held again and again, as by a machine that has no time for it."""
    notify = watched.apart["notify"].process
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            notify.send_signal(signal.SIGSTOP)
            time.sleep(1.2)
            notify.send_signal(signal.SIGCONT)
            over.wait(1.5)

    def let_go() -> None:
        over.set()
        holder.join()

    holder = threading.Thread(target=hold)
    holder.start()
    fire_and_clear(watched, APART, "OccdLoopLag", mend=let_go)


@pytest.mark.long
def test_a_node_gone(watched: Watched) -> None:
    server = watched.going()
    watched.prometheus.until(GOING, "OccdNodeGone", fires=False)
    server.process.kill()
    server.process.wait()
    again: list[Server] = []
    fire_and_clear(watched, GOING, "OccdNodeGone", mend=lambda: again.append(watched.going()))
    assert again[0].stop() == 0


@pytest.mark.long
def test_a_disk_full(watched: Watched) -> None:
    filler = watched.disk / "filler"
    fill(filler)
    fire_and_clear(watched, ONE, "OccdDiskFull", "OccdDataFolderUnusable", mend=filler.unlink)


@pytest.mark.long
def test_jails_fail_and_nothing_runs(watched: Watched) -> None:
    until(lambda: watched.one.get("/readyz").status == 200)
    stick(watched.stuck)
    waiting = [watched.one.submit("print(1)") for _ in range(3)]
    fire_and_clear(watched, ONE, "OccdNothingRuns", "OccdJailsFail", mend=watched.stuck.unlink)
    for id in waiting:
        watched.one.result(id)


@pytest.mark.long
def test_slots_are_stuck_and_the_queue_grows_until_it_is_full(watched: Watched) -> None:
    until(lambda: watched.one.get("/readyz").status == 200)
    sleeps = watched.one.submit(SLEEP, limits=LONG)
    watched.one.wait_running(sleeps)
    posted: list[Any] = []

    def fill_up() -> bool:
        posted.append(watched.one.post({"language": "python", "source": "print(1)"}))
        time.sleep(1.5)
        return "OccdQueueGrows" in watched.prometheus.firing(ONE)

    until(fill_up)
    while posted[-1].status == 202:
        fill_up()
    assert posted[-1].json()["type"] == "queue-full"
    fire_and_clear(
        watched,
        ONE,
        "OccdQueueFull",
        "OccdSlotsStuck",
        mend=lambda: watched.one.request("DELETE", f"{API}/submissions/{sleeps}"),
    )
    watched.prometheus.until(ONE, "OccdQueueGrows", fires=False)
    for each in posted:
        if each.status == 202:
            watched.one.result(each.json()["id"])


def test_each_alert_has_its_fault_here() -> None:
    text = Path(__file__).read_text()
    assert [each["alert"] for each in rules("alerts.yml") if f'"{each["alert"]}"' not in text] == []
