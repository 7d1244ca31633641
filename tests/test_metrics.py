"""What Prometheus is told at `metrics.listen`."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families
from rabbitmq_server import rabbitmq
from redis_server import redis_server
from serving import API, Server, serving, start

from occd import metrics
from occd.broker import open_broker
from occd.config import Config
from occd.draining import Draining
from occd.health import Health
from occd.observed import Observed
from occd.sqlite import open_database
from occd.state import open_state

ROOT = Path(__file__).parent.parent
ANY_PORT = "127.0.0.1:0"
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
QUEUE_UP, STATE_UP = 'occd_up{part="queue"}', 'occd_up{part="state"}'


def port_of(server: Server) -> int:
    found = re.search(r"metrics: http://127\.0\.0\.1:(\d+)/metrics", server.output.read_text())
    assert found
    return int(found[1])


def text_of(server: Server, host: str = "127.0.0.1", timeout: str = "4") -> str:
    """What Prometheus reads."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port_of(server)}/metrics", headers={TIMEOUT: timeout, "Host": host}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return str(answer.read().decode())


def scrape(server: Server) -> dict[str, float]:
    """By sample, as in `occd_runs_total{language="c",verdict="ok"}`; without the buckets."""
    text = text_of(server)
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def scrape_until(server: Server, sample: str, value: float) -> dict[str, float]:
    deadline = time.monotonic() + 60
    while (found := scrape(server)).get(sample) != value:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_what_happens_is_counted(tmp_path: Path) -> None:
    with serving(tmp_path / "data", metrics__listen=ANY_PORT) as server:
        for _ in range(3):
            server.run("print(1)")
        server.run("int main() { return 0 }", language="c")
        assert server.post({"language": "klingon", "source": ""}).status == 422
        assert server.get("/nothing").status == 404
        found = scrape(server)
    submissions = f'route="{API}/submissions"'
    expected = {
        'occd_runs_total{language="python",verdict="ok"}': 3,
        'occd_runs_total{language="c",verdict="compile_error"}': 1,
        f'occd_http_requests_total{{method="POST",{submissions},status="202"}}': 4,
        f'occd_http_requests_total{{method="POST",{submissions},status="422"}}': 1,
        'occd_http_requests_total{method="GET",route="none",status="404"}': 1,
        'occd_refusals_total{problem="unknown-language"}': 1,
        f"occd_http_request_seconds_count{{{submissions}}}": 5,
        "occd_submissions_accepted_total": 4,
        "occd_attempts_total": 4,
        "occd_attempts_repeated_total": 0,
        "occd_wait_seconds_count": 4,
        "occd_store_seconds_count": 4,
        'occd_setup_seconds_count{stage="run"}': 3,
        'occd_run_seconds_count{stage="compile"}': 1,
        'occd_queue_messages{queue="submission_queue"}': 0,
        "occd_queue_oldest_seconds": 0,
        'occd_up{part="queue"}': 1,
        'occd_up{part="state"}': 1,
        'occd_nodes{role="execute"}': 1,
        "occd_ready": 1,
        "occd_jails_fit": 1,
        "occd_slots_used": 0,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_what_waits_and_runs_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="1", metrics__listen=ANY_PORT) as server:
        runs = server.submit("import time; time.sleep(60)")
        server.wait_running(runs)
        waits = server.submit("print(1)")
        time.sleep(1)
        found = scrape(server)
        assert found["occd_slots_used"] == found["occd_slots"] == 1
        assert found['occd_queue_messages{queue="submission_queue"}'] == 1
        assert 1 <= found["occd_queue_oldest_seconds"] < 60
        server.request("DELETE", f"{API}/submissions/{runs}")
        server.result(waits)
        found = scrape_until(server, "occd_slots_used", 0)
        assert found["occd_queue_oldest_seconds"] == 0
        assert found['occd_runs_total{language="python",verdict="cancelled"}'] == 1


def test_what_does_not_answer_is_down_and_the_rest_is_told(tmp_path: Path) -> None:
    with (
        rabbitmq(tmp_path / "rabbitmq") as broker,
        redis_server() as redis,
        serving(
            tmp_path / "data",
            rabbitmq__url=broker.url,
            redis__url=redis.url,
            languages='["python"]',
            metrics__listen=ANY_PORT,
        ) as server,
    ):
        found = scrape(server)
        assert [found[name] for name in (QUEUE_UP, STATE_UP, "occd_ready")] == [1, 1, 1]
        broker.pause()
        found = scrape_until(server, QUEUE_UP, 0)
        assert (found[STATE_UP], found["occd_ready"]) == (1, 0)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as many:  # one by one they would take 4 s and more each
            for text in many.map(lambda _: text_of(server, timeout="10"), range(8)):
                assert f"{QUEUE_UP} 0.0" in text
        assert time.monotonic() - began < 24
        broker.resume()
        scrape_until(server, QUEUE_UP, 1)
        redis.pause()
        found = scrape_until(server, STATE_UP, 0)
        assert (found[QUEUE_UP], found["occd_ready"]) == (1, 0)
        redis.resume()
        assert scrape_until(server, STATE_UP, 1)["occd_ready"] == 1


def test_no_page_reads_metrics_through_a_name_of_its_own(tmp_path: Path) -> None:
    with serving(
        tmp_path / "data", metrics__listen=ANY_PORT, http__hosts="occd.example.org"
    ) as server:
        for name in ("localhost:9464", "127.0.0.1", "occd.example.org"):
            assert "occd_up" in text_of(server, name)
        with pytest.raises(urllib.error.HTTPError) as refused:
            text_of(server, "rebound.example.com")
        assert refused.value.code == 421
        assert b"occd_up" not in refused.value.read()


def test_who_keeps_connections_open_does_not_shut_prometheus_out(tmp_path: Path) -> None:
    with serving(tmp_path / "data", metrics__listen=ANY_PORT) as server, ExitStack() as stack:
        for sent in (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /metrics HT", b""):
            held = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server))))
                for _ in range(20)
            ]
            for each in held:
                with suppress(OSError):  # the first ones had to make room
                    each.sendall(sent)
            if sent.endswith(b"\n"):
                for each in held:
                    with suppress(OSError):
                        each.recv(12)
            refused = 0
            while refused < 5:  # those that were just answered may still count as waiting
                try:
                    assert "occd_up" in text_of(server)
                    break
                except OSError:  # 503, or the end of the connection
                    refused += 1
            assert refused < 5


class Slow:
    """A part that answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = trio.Event()

    async def check(self) -> None:
        self.asked += 1
        await self.answers.wait()


@asynccontextmanager
async def observed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Observed, Health, Slow]]:
    config = Config(data_dir=folder)
    async with (
        open_database(folder) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
    ):
        slow, draining = Slow(), Draining()
        monkeypatch.setattr(broker, "check", slow.check)
        health = Health(broker, state, None, None, draining)
        found = Observed(config, broker, state, health, draining, None, None, None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.run)
            yield found, health, slow
            nursery.cancel_scope.cancel()


async def test_one_reading_serves_all_who_ask_for_metrics_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two Prometheus the second would wait for two slow readings, and take the node for gone."""
    async with observed(tmp_path, monkeypatch) as (found, _, slow):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(found.text, 60.0)
            await trio.testing.wait_all_tasks_blocked(0.1)
            slow.answers.set()
        assert slow.asked == 1
        assert QUEUE_UP + " 1.0" in (await found.text(60.0)).decode()
        assert slow.asked == 2


async def test_a_part_is_down_when_it_does_not_answer_and_not_when_somebody_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observed(tmp_path, monkeypatch) as (found, health, slow):
        slow.answers.set()
        await found.text(60.0)
        slow.answers = trio.Event()
        with trio.move_on_after(0.01):  # as a client of /readyz
            await health.problems()
        assert metrics.UP.labels("queue")._value.get() == 1
        assert QUEUE_UP + " 0.0" in (await found.text(60.0)).decode()


async def test_who_gives_a_scrape_no_time_makes_no_part_seem_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observed(tmp_path, monkeypatch) as (found, _, slow):
        slow.answers.set()
        await found.text(60.0)
        slow.answers = trio.Event()
        texts = []

        async def prometheus() -> None:
            texts.append((await found.text(60.0)).decode())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.text, 0.0)
            nursery.start_soon(prometheus)
            nursery.start_soon(found.text, 0.0)
            await trio.testing.wait_all_tasks_blocked(0.1)
            await found.text(0.0)
            slow.answers.set()
        for up in (QUEUE_UP, STATE_UP, "occd_ready"):
            assert up + " 1.0" in texts[0]


def test_an_address_that_is_taken_costs_one_warning_and_the_metrics(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with serving(tmp_path / "data", metrics__listen=taken) as server:
            assert server.run("print(1)")["verdict"] == "ok"
            assert "/metrics" not in server.output.read_text()
    said = server.log.read_text()
    assert said.count("there are no metrics of this process") == 1
    assert taken in said


def test_no_label_has_a_value_that_a_stranger_invents(tmp_path: Path) -> None:
    with serving(tmp_path / "data", metrics__listen=ANY_PORT) as server:
        invented = "zz-invented-zz"
        server.request("GET", f"/{invented}")
        server.request("GET", f"{API}/submissions/{invented}")
        server.request("GET", f"/static/{invented}")
        server.request(invented.upper(), "/")
        server.post({"language": invented, "source": ""})
        server.post({invented: 1})
        server.post({"language": "python", "source": "1", "version": invented})
        server.get(f"{API}/submissions?{invented}=1", authorization=f"Bearer {invented}{'x' * 20}")
        before = len(scrape(server))
        for number in range(50):
            server.request("GET", f"/{invented}{number}")
            server.request(f"{invented}{number}".upper(), "/")
            server.post({"language": f"{invented}{number}", "source": ""})
        found = scrape(server)
    assert len(found) <= before + 2
    assert not [name for name in found if invented in name.lower()]


def cpu_seconds(server: Server) -> float:
    """The processor time that all threads of the process have used."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@pytest.mark.long
@pytest.mark.alone
def test_a_scrape_costs_little_and_has_as_many_series_after_10_000_submissions(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "data", execute__slots="1", metrics__listen=ANY_PORT) as server:
        server.run("print(1)")
        server.wait_running(
            server.submit("import time; time.sleep(250)", limits={"wall_time": 300})
        )
        server.request("POST", f"{API}/submissions/batch", b"{}")  # the series of this route
        few = text_of(server).count("\n")
        batch = {"submissions": [{"language": "python", "source": "print(1)"}] * 1000}
        for _ in range(10):
            answer = server.request("POST", f"{API}/submissions/batch", json.dumps(batch).encode())
            assert answer.status == 202, answer.body
        assert scrape(server)['occd_queue_messages{queue="submission_queue"}'] == 10_000
        costs = []
        for _ in range(20):
            before = cpu_seconds(server)
            many = text_of(server).count("\n")
            costs.append(cpu_seconds(server) - before)
        print(f"a scrape takes {sorted(costs)[10] * 1e3:.1f} ms of {many} lines")
        assert sorted(costs)[10] < 0.05
        assert many <= few + 2  # the answer 202 to a batch


def test_the_docs_have_a_line_for_each_metric() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE)
    ours = [
        (family.name + ("_total" if family.type == "counter" else ""), family.type, labels(family))
        for family in metrics.REGISTRY.collect()
        if family.name.startswith("occd_")
    ]
    assert len(ours) > 30
    assert sorted(
        (name, kind, given.strip().replace("`", "")) for name, kind, given in listed
    ) == sorted(ours)


def labels(family: Any) -> str:
    collector = metrics.REGISTRY._names_to_collectors[family.name]
    return ", ".join(collector._labelnames)  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", ["nowhere", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused_at_the_start(tmp_path: Path, given: str) -> None:
    server = start(tmp_path / "data", metrics__listen=given)
    assert server.process.wait(60) == 125
    assert "OCCD_METRICS__LISTEN" in server.log.read_text()
